"""The workflows that ship: both formats are one graph, and every one runs in the real server."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
import torch
from comfyui_firstframe_pack.firstframe.clips.reference import prepare_image
from comfyui_firstframe_pack.firstframe.clips.video import read_clip
from comfyui_firstframe_pack.nodes.load import EXAMPLE_IMAGE
from harness import ROOT, START, TITLES, Graph, Server, template, workflow

pytestmark = pytest.mark.feature("Workflows that ship")

FRAMES = {
    "quickstart": [16],
    "retention": [16],
    "one_image_many_actions": [16, 16, 16],
    "long_clip": [31],
    "context_windows": [40],
    "strength_over_time": [16],
    "first_and_last_frame": [16],
}
PUBLISHED = {  # need published weights: test_published_workflows.py runs all but Wan, which test_video_models.py does
    "i2v_adapter_official",
    "community_models",
    "controlnet",
    "animatediff_evolved",
    "sdxl",
    "wan_dual_guidance",
}
WITH_OTHER_PACKS = {"animatediff_evolved"}
NAMES = sorted(TITLES)
NOTES = {"MarkdownNote", "Note"}
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}


def as_api(graph: dict[str, Any], nodes: dict[str, Any]) -> Graph:
    """A graph as the editor saves it, as the editor would queue it. ``nodes`` is what the server says of its nodes."""
    sources = {link[0]: [str(link[1]), link[2]] for link in graph["links"]}
    queued = {}
    for node in graph["nodes"]:
        if node["type"] in NOTES:
            continue
        inputs = dict(_widget_values(nodes[node["type"]], node["widgets_values"]))
        inputs |= {socket["name"]: sources[socket["link"]] for socket in node["inputs"]}
        queued[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return queued


def _widget_values(info: dict[str, Any], values: list[Any]) -> list[tuple[str, Any]]:
    remaining, found = list(values), []
    described = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
    for kind, names in info["input_order"].items():
        for name in names if kind != "hidden" else ():
            type_, *options = described[name]
            if not remaining:
                return found  # saved before the node had the inputs that follow: the editor takes their defaults
            if isinstance(type_, list) or type_ in WIDGETS:
                found.append((name, remaining.pop(0)))
                if options and options[0].get("control_after_generate"):
                    remaining.pop(0)
    assert not remaining, f"{info['name']} has no widget for {remaining}"
    return found


def test_these_are_all() -> None:
    queued = sorted(file.stem for file in (ROOT / "workflows" / "api").glob("*.json"))
    assert NAMES == queued == sorted([*FRAMES, *PUBLISHED])
    listed = sorted(file.stem for file in (ROOT / "workflows").glob("*.json"))
    assert listed == sorted([START, *TITLES.values()]) and listed[0] == START


def opened_and_queued(name: str, nodes: dict[str, Any]) -> tuple[Graph, Graph]:
    """A workflow in both of its formats, the first turned into the second."""
    opened = template(TITLES[name])
    queued = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text("utf-8"))
    bare = {id: {"class_type": node["class_type"], "inputs": node["inputs"]} for id, node in queued.items()}
    if foreign := {node["class_type"] for node in bare.values()} - set(nodes):
        pytest.skip(f"no pack for {sorted(foreign)}")
    return as_api(opened, nodes), bare


@pytest.mark.parametrize("name", sorted({*NAMES} - WITH_OTHER_PACKS))
def test_both_formats_are_one_graph(server: Server, name: str) -> None:
    opened, queued = opened_and_queued(name, server.get("object_info"))
    assert opened == queued


@pytest.mark.parametrize("name", sorted(FRAMES))
def test_it_runs_and_starts_with_the_image(server: Server, name: str) -> None:
    outcome = server.run(workflow(name))
    assert outcome.event == "execution_success", outcome.data
    clips = [read_clip(file).frames for file in server.output_files(outcome)]
    assert [len(clip) for clip in clips] == FRAMES[name]
    image = prepare_image(EXAMPLE_IMAGE, 128, 128)[0].movedim(0, -1)
    for clip in clips:
        assert (clip[0] / 255 - image).abs().mean() < 0.05
    for one, other in pairwise(clips):
        assert not torch.equal(one, other)
