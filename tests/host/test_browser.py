"""The pack as it is met in ComfyUI's own editor: templates, help, widgets, Run, previews, errors, drag and drop."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import Any

import pytest
from comfyui_firstframe_pack.firstframe.weights.hub.hints import how_to_get
from compatibility import version
from conftest import HOST
from harness import ROOT, RUN_SECONDS, START, STEPS, TITLES, Graph, Server, running_server, template
from run import BROWSERS, find_browser
from test_workflows import NAMES, opened_and_queued

if not find_browser():
    pytest.skip(f"BROWSER NOT TESTED: none of {', '.join(BROWSERS)} is installed", allow_module_level=True)

from browser import SECONDS, Editor, chromium, editor
from playwright.sync_api import Browser, TimeoutError

pytestmark = pytest.mark.feature("The editor: templates, help, Run, drag and drop (headless Chromium)")

TINY = "FirstFrameLoadTinyModel"
PRIOR = "FirstFrameSimilarityPrior"
SUBTLE = "subtle (t0 0.7, p 1)"
SHOWN_PREVIEWS = """() => {
  const sampler = app.graph.nodes.find(({ type }) => type === "KSampler"), canvas = document.createElement("canvas");
  window.previews = [];
  setInterval(() => {
    const image = sampler.imgs?.[0];
    if (!image?.complete || image.src === window.last) return;
    [window.last, canvas.width, canvas.height] = [image.src, 64, 64];
    canvas.getContext("2d").drawImage(image, 0, 0, 64, 64);
    window.previews.push(canvas.toDataURL());
  }, 50);
}"""
SHOWN_FILES = """() => {
  const savers = app.graph.nodes.filter(({ type }) => type === "FirstFrameSaveVideo");
  return Object.fromEntries(savers.map(({ widgets, imgs }) => {
    const videos = widgets.flatMap(({ element }) => [...(element?.querySelectorAll("video") ?? [])]);
    return [widgets.find(({ name }) => name === "format").value, [
      ...videos.map((video) => (video.readyState >= 2) * video.videoWidth),
      ...(imgs ?? []).map((image) => image.complete * image.naturalWidth),
    ]];
  }));
}"""
SIDE_BY_SIDE = """() => app.graph.nodes.filter(({ type }) => type === "FirstFrameSaveVideo").forEach((node, i) => {
  node.pos = [100 + 330 * i, 260];
  node.size = [300, 420];
})"""
TOOLTIPS = """() => Object.fromEntries(Object.entries(LiteGraph.registered_node_types)
  .filter(([type]) => type.startsWith("FirstFrame"))
  .map(([type, { nodeData }]) => [type, Object.fromEntries(
    Object.keys({ ...nodeData.input.required, ...nodeData.input.optional })
      .map((name) => [name, nodeData.inputs[name]?.tooltip ?? ""]))]))"""
NewEditor = Callable[..., AbstractContextManager[Editor]]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that shows previews."""
    base = tmp_path_factory.mktemp("editor") / "base"
    with running_server(HOST, base, more_options=["--preview-method", "latent2rgb"]) as server:
        yield server


@pytest.fixture(scope="module")
def new_editor(browser: Browser, shown: Server) -> NewEditor:
    """Opens an editor with settings of the user."""
    return partial(editor, browser, shown, ROOT / "screenshots" / version(HOST))


@pytest.fixture
def opened(new_editor: NewEditor) -> Iterator[Editor]:
    """An editor, whose scripts must not fail."""
    with new_editor() as started:
        yield started
        assert not started.errors


@pytest.fixture(scope="module")
def shared(new_editor: NewEditor) -> Iterator[Editor]:
    """One editor for tests that only open graphs."""
    with new_editor() as started:
        yield started
        assert not started.errors


def shipped(name: str) -> dict[str, Any]:
    """A workflow as the editor opens it, with a few steps."""
    graph = template(TITLES[name])
    for node in graph["nodes"]:
        if node["type"] == "KSampler":
            node["widgets_values"][2] = STEPS
    return graph


def test_the_template_browser_lists_all_workflows_with_their_images(opened: Editor) -> None:
    cards = opened.templates()
    assert sorted(cards.locator("h3").all_inner_texts()) == sorted([START, *TITLES.values()])
    for number, card in enumerate(cards.all()):
        card.scroll_into_view_if_needed()  # only then is its image loaded; a card without one has the editor's own
        image = card.locator("img[src^='blob:']")
        assert image.evaluate("async (image) => { await image.decode(); return image.naturalWidth; }") == 512
        if number % 6 == 5:
            opened.image(f"templates_{number // 6 + 1}")


def test_quickstart_opens_runs_plays_and_comes_back_from_its_file(opened: Editor, shown: Server) -> None:
    opened.open_template(TITLES["quickstart"])
    assert opened.problems() == opened.alerts() == []
    assert opened.page.get_by_test_id("error-overlay").count() == 0
    opened.image("quickstart")
    queued = opened.queued()

    assert opened.run() == "execution_success"
    video = opened.page.locator("video")
    opened.page.wait_for_function("() => document.querySelector('video')?.readyState >= 2")
    assert video.evaluate("(video) => [video.videoWidth, video.videoHeight, video.duration]") == [128, 128, 2]
    video.evaluate("(video) => video.play()")
    opened.page.wait_for_function("() => document.querySelector('video').currentTime > 0.5")
    opened.image("quickstart_after_run")

    before = opened.graph()
    (file,) = (shown.base / "output" / "video").glob("FirstFrame_*.mp4")
    opened.open(shipped("retention"))
    assert opened.queued() != queued
    opened.drop(file)
    opened.page.wait_for_function("(count) => app.graph.nodes.length === count", arg=len(before["nodes"]))
    assert bare(opened.graph()) == bare(before)
    assert opened.queued() == queued
    opened.image("quickstart_dropped")


def bare(graph: dict[str, Any]) -> Any:
    """A saved graph without the places of its nodes and the order of its lists."""
    kept = ("id", "type", "title", "mode", "inputs", "outputs", "widgets_values")
    nodes = {str(node["id"]): {name: node.get(name) for name in kept} for node in graph["nodes"]}
    return nodes, sorted(graph["links"])


@pytest.mark.parametrize("name", [name for name in NAMES if name != "animatediff_evolved"])
def test_every_workflow_opens_and_queues_what_its_other_format_says(shared: Editor, shown: Server, name: str) -> None:
    nodes = shown.get("object_info")
    _, expected = opened_and_queued(name, nodes)
    shared.open(template(TITLES[name]))
    shared.image(f"workflow_{name}")
    assert shared.problems() == shared.alerts() == shared.overlaps() == []
    assert {id: without_defaults(node, nodes) for id, node in shared.queued().items()} == {
        id: without_defaults(node, nodes) for id, node in expected.items()
    }


def without_defaults(node: dict[str, Any], nodes: dict[str, Any]) -> dict[str, Any]:
    """A queued node without the inputs that have their default."""
    described = {**nodes[node["class_type"]]["input"].get("required", {})}
    described |= nodes[node["class_type"]]["input"].get("optional", {})
    defaults = {name: default(*description) for name, description in described.items()}
    changed = {name: value for name, value in node["inputs"].items() if value != defaults[name]}
    return {"class_type": node["class_type"], "inputs": changed}


def default(kind: str | list[Any], options: dict[str, Any] | None = None) -> Any:
    """Of an input as the server describes it; that of a choice is its first option, unless it says otherwise."""
    choices = kind if isinstance(kind, list) else (options or {}).get("options")
    return (options or {}).get("default", choices[0] if choices else None)


def test_what_is_wrong_with_a_graph_is_seen(opened: Editor) -> None:
    graph = shipped("quickstart")
    for node in graph["nodes"]:
        node["type"] = "NoSuchNode" if node["type"] == PRIOR else node["type"]
        node["pos"] = [0, 0] if node["type"] in (TINY, "KSampler") else node["pos"]
    cut = next(link for link in graph["links"] if link[5] == "VAE")
    cut[2] = 0  # from the node's MODEL
    opened.open(graph)
    opened.image("missing_node")
    assert opened.problems() == ["bad link: MODEL to FirstFrameEncodeReference.vae", "missing node: NoSuchNode"]
    assert f"1 {TINY} and 8 KSampler" in opened.overlaps()


@pytest.mark.parametrize("locale", ["en", "zh"])
def test_the_help_panel_shows_our_page(new_editor: NewEditor, locale: str) -> None:
    page = ROOT / "web" / "docs" / (f"{PRIOR}.md" if locale == "en" else f"{PRIOR}/{locale}.md")
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    with new_editor(**{"Comfy.Locale": locale}) as opened:
        opened.open(shipped("quickstart"))
        opened.click(PRIOR)
        opened.page.get_by_test_id("info-button").click()
        shown = opened.page.locator(".node-help-content")
        for heading in headings:
            shown.get_by_role("heading", name=heading, exact=True).first.wait_for()
        opened.image(f"help_{locale}")
        assert not opened.errors


def test_choosing_a_motion_shows_its_values_and_changing_one_is_custom(shared: Editor) -> None:
    shared.open(shipped("quickstart"))
    shared.choose(PRIOR, "motion", SUBTLE)
    shared.image("motion")
    assert chosen(shared) == [SUBTLE, 0.7, 1]
    shared.click(PRIOR, "start_time", x=24)  # the arrow to smaller values
    assert chosen(shared) == ["custom", 0.69, 1]
    assert shared.queued()["7"]["inputs"].items() >= {"motion": "custom", "start_time": 0.69}.items()


def motion_in_nodes_of_html(new_editor: NewEditor) -> None:
    with new_editor(**{"Comfy.VueNodes.Enabled": True}) as opened:
        opened.open(shipped("quickstart"))
        prior = opened.page.locator("[data-node-id]", has_text="keep_probability")
        prior.get_by_role("combobox", name="motion").click()
        opened.page.get_by_role("option", name=SUBTLE).click()
        start = prior.get_by_test_id("node-widget").filter(has_text="start_time")
        assert chosen(opened) == [SUBTLE, 0.7, 1]
        assert float(start.locator("input").input_value()) == 0.7
        start.get_by_test_id("decrement").click()
        assert chosen(opened) == ["custom", 0.69, 1]
        prior.get_by_role("combobox", name="motion").filter(has_text="custom").wait_for()
        opened.image("motion_in_nodes_of_html")
        assert not opened.errors


if tuple(map(int, version(HOST).split("."))) >= (0, 30):  # before, these nodes were an experiment
    test_motion_in_nodes_of_html = motion_in_nodes_of_html


def chosen(opened: Editor) -> list[Any]:
    """What the prior's widgets show."""
    values = opened.values(PRIOR)
    return [values[name] for name in ("motion", "start_time", "keep_probability")]


def test_previews_go_through_the_frames_while_sampling(shared: Editor) -> None:
    graph = shipped("quickstart")
    (sampler,) = [node for node in graph["nodes"] if node["type"] == "KSampler"]
    sampler["widgets_values"][:3] = [9, "fixed", 12]
    shared.open(graph)
    shared.page.evaluate(SHOWN_PREVIEWS)
    shared.press_run()
    shared.page.wait_for_function("() => window.previews.length >= 8")
    shared.image("preview")
    shared.page.wait_for_function("() => window.ended", timeout=RUN_SECONDS * SECONDS)
    previews = shared.page.evaluate("() => window.previews")
    assert len(set(previews)) > 8, "the first frame is the image at every step: only other frames look different"


def test_each_kind_of_file_is_shown_in_save_video(shared: Editor) -> None:
    kinds = ["mp4", "webp", "gif", "png"]
    shared.page.evaluate("async (graph) => { await app.loadApiJson(graph, 'kinds'); }", saved_as(kinds))
    shared.page.evaluate(SIDE_BY_SIDE)
    assert shared.run() == "execution_success"
    expected = {"mp4": [128], "webp": [128], "gif": [128], "png": [128, 128]}
    same = f"(expected) => JSON.stringify(({SHOWN_FILES})()) === JSON.stringify(expected)"
    with suppress(TimeoutError):
        shared.page.wait_for_function(same, arg=expected, timeout=10 * SECONDS)
    shared.fit()
    shared.image("kinds_of_files")
    assert shared.page.evaluate(SHOWN_FILES) == expected


def saved_as(kinds: list[str]) -> Graph:
    """Two frames, the example image and its negative, saved once for each kind."""
    frames: Graph = {
        "1": {"class_type": "FirstFrameExamplePicture", "inputs": {}},
        "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
        "3": {"class_type": "ImageBatch", "inputs": {"image1": ["1", 0], "image2": ["2", 0]}},
    }
    settings = {"images": ["3", 0], "fps": 2.0, "crf": -1}
    for id, kind in enumerate(kinds, 10):
        inputs = {**settings, "filename_prefix": f"kinds/{kind}", "format": kind}
        frames[str(id)] = {"class_type": "FirstFrameSaveVideo", "inputs": inputs}
    return frames


def test_every_input_has_a_tooltip_and_it_is_shown(shared: Editor) -> None:
    tooltips = shared.page.evaluate(TOOLTIPS)
    assert len(tooltips) > 20
    assert [(type, name) for type, inputs in tooltips.items() for name, text in inputs.items() if not text] == []
    shared.open(shipped("quickstart"))
    shared.hover(PRIOR, "start_time")
    shared.page.get_by_text(tooltips[PRIOR]["start_time"]).wait_for()
    shared.image("tooltip")


def test_a_missing_file_is_explained(shared: Editor) -> None:
    shared.open(with_adapter_from("i2v_module.pth"))
    assert shared.problems() == []
    shared.press_run()
    said = shared.errors_shown()
    if (more := shared.page.get_by_role("button", name="info")).count():
        more.first.click()
    said.get_by_text(how_to_get("firstframe", "i2v_module.pth")).first.wait_for()
    shared.image("missing_file")


def with_adapter_from(file: str) -> dict[str, Any]:
    """The quickstart with Load I2V Adapter in place of the tiny model's adapter."""
    graph = shipped("quickstart")
    (link,) = [link for link in graph["links"] if link[5] == "I2V_ADAPTER"]
    id, source = max(node["id"] for node in graph["nodes"]) + 1, link[1]
    for node in graph["nodes"]:
        if node["id"] == source:
            (output,) = [output for output in node["outputs"] if output["type"] == link[5]]
    loader = {"id": id, "type": "FirstFrameLoadAdapter", "pos": [770, 0], "size": [320, 60], "widgets_values": [file]}
    loader |= {"inputs": [], "outputs": [{**output}], "flags": {}, "order": 0, "mode": 0, "properties": {}}
    graph["nodes"].append(loader)
    output["links"], link[1:3] = [], [id, 0]
    return graph
