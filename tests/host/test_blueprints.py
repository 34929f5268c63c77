"""Blueprints in ComfyUI's own editor: from its node library to a finished video, and files that are offered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from comfyui_firstframe_pack.firstframe.weights.hub.editor import all_nodes
from compatibility import version
from conftest import HOST
from harness import ROOT, START, TITLES, Server, running_server, template
from run import BROWSERS, find_browser

if not find_browser():
    pytest.skip(f"BROWSER NOT TESTED: none of {', '.join(BROWSERS)} is installed", allow_module_level=True)

from browser import Editor, chromium, editor

pytestmark = pytest.mark.feature("Blueprints: one node from an image and a prompt to a video")

BLUEPRINTS = sorted((ROOT / "subgraphs").glob("*.json"))
VERSION = tuple(map(int, version(HOST).split(".")))
ADD_BEFORE_AND_BEHIND = """() => {
  const [blueprint] = app.graph.nodes;
  const add = (type, x) => {
    const node = LiteGraph.createNode(type);
    node.pos = [x, blueprint.pos[1]];
    app.graph.add(node);
    return node;
  };
  const slot = (name) => blueprint.outputs.findIndex((output) => output.name === name);
  add("FirstFrameExamplePicture", blueprint.pos[0] - 320).connect(0, blueprint, 0);
  blueprint.connect(slot("frames"), add("FirstFrameSaveVideo", blueprint.pos[0] + 450), 0);
}"""
FEW_STEPS = """(steps) => {
  const inside = app.graph.nodes.flatMap((node) => [...(node.subgraph?.nodes ?? [])]);
  const sampler = inside.find(({ type }) => type === "FirstFrameSampler");
  sampler.widgets.find(({ name }) => name === "steps").value = steps;
}"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(HOST, tmp_path_factory.mktemp("blueprints") / "base") as server:
        yield server


@pytest.fixture(scope="module")
def opened(served: Server) -> Iterator[Editor]:
    """An editor, whose scripts must not fail."""
    with chromium() as browser, editor(browser, served, ROOT / "screenshots" / version(HOST)) as started:
        yield started
        assert not started.errors


def loaded(file: Path) -> dict[str, Any]:
    graph: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return graph


def has_played(opened: Editor) -> None:
    """Run, until Save Video has its video."""
    opened.page.evaluate(FEW_STEPS, 3)
    assert opened.run() == "execution_success"
    opened.page.wait_for_function("() => document.querySelector('video')?.readyState >= 2")
    assert opened.page.locator("video").evaluate("(video) => [video.videoWidth, video.duration]") == [128, 2]
    opened.page.wait_for_function("() => document.querySelector('video').currentTime > 0.5")  # by itself


@pytest.mark.parametrize("file", BLUEPRINTS, ids=lambda file: file.stem)
def test_it_opens(opened: Editor, file: Path) -> None:
    opened.open(loaded(file))
    opened.image(f"blueprint_{file.stem}")
    assert opened.problems() == opened.alerts() == []
    values = dict(opened.page.evaluate("() => app.graph.nodes[0].widgets.map(({ name, value }) => [name, value])"))
    assert values["motion"].startswith("balanced") and values["seed"] == 0


def test_the_first_template_runs(opened: Editor) -> None:
    opened.open(template(START))
    opened.fit()
    assert opened.problems() == opened.alerts() == opened.overlaps() == []
    has_played(opened)
    opened.image("first_template_after_run")


if VERSION >= (0, 8):  # before, the server knows none

    def test_the_server_lists_them(served: Server) -> None:
        listed = served.get("global_subgraphs").values()
        ours = [entry["name"] for entry in listed if entry["info"]["node_pack"] == "custom_nodes.ComfyUI-FirstFrame"]
        assert sorted(ours) == [file.stem for file in BLUEPRINTS]


if VERSION >= (0, 33):  # older editors have another library, and offer no pickles

    def test_from_the_node_library_to_a_video(opened: Editor) -> None:
        opened.open({**template(START), "nodes": [], "links": [], "definitions": {}})
        opened.add_from_library("Image to Video (tiny model)")
        opened.page.evaluate(ADD_BEFORE_AND_BEHIND)
        opened.fit()
        assert opened.problems() == opened.alerts() == []
        has_played(opened)
        opened.image("blueprint_after_run")

    @pytest.mark.parametrize("graph", ["I2V-Adapter as published", "Real images with SD1.5"])
    def test_missing_files_are_offered(opened: Editor, graph: str) -> None:
        assert graph in TITLES.values()
        opened.open(template(graph))
        shown = opened.errors_shown()
        shown.get_by_text("Missing Models").first.wait_for()
        opened.image(f"missing_models_{graph}")
        models = {m["name"] for node in all_nodes(template(graph)) for m in node["properties"].get("models", [])}
        for name in models:
            shown.get_by_text(name).first.wait_for()
        buttons = [text.strip() for text in shown.get_by_role("button").all_inner_texts()]
        assert buttons.count("Download") == len(models)
