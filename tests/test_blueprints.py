"""The blueprints: one node each, whose inside fits the nodes that there are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
BLUEPRINTS = sorted((ROOT / "subgraphs").glob("*.json"))
START = ROOT / "workflows" / "Animate an image (start here).json"
SURFACE = json.loads((ROOT / "tests" / "host" / "object_info.json").read_text("utf-8"))
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
EVERY_INPUT = {"image", "motion", "seed"}
INPUT, OUTPUT = -10, -20  # ids of a subgraph's two ends


def opened(file: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A workflow, and its subgraph."""
    graph = json.loads(file.read_text("utf-8"))
    (subgraph,) = graph["definitions"]["subgraphs"]
    return graph, subgraph


@pytest.mark.parametrize("file", BLUEPRINTS, ids=lambda file: file.stem)
def test_it_is_one_node_with_words_about_it(file: Path) -> None:
    graph, subgraph = opened(file)
    (node,) = graph["nodes"]
    assert node["type"] == subgraph["id"]
    assert subgraph["name"] == node["title"] == file.stem
    assert subgraph["description"] == graph["extra"]["BlueprintDescription"] != ""
    assert subgraph["category"] == "Video generation and editing/Image to video"  # as ComfyUI's own
    names = [input["name"] for input in subgraph["inputs"]]
    assert {*names} >= EVERY_INPUT and names[0] == "image" and names[1].startswith("prompt")
    assert [input["name"] for input in node["inputs"]] == names
    assert {output["type"] for output in subgraph["outputs"]} == {"IMAGE", "VIDEO"}


@pytest.mark.parametrize("file", BLUEPRINTS, ids=lambda file: file.stem)
def test_its_links_join_what_fits(file: Path) -> None:
    _, subgraph = opened(file)
    nodes = {node["id"]: node for node in subgraph["nodes"]}
    for link in subgraph["links"]:
        source = subgraph if link["origin_id"] == INPUT else nodes[link["origin_id"]]
        target = subgraph if link["target_id"] == OUTPUT else nodes[link["target_id"]]
        given = source["inputs" if source is subgraph else "outputs"][link["origin_slot"]]
        taken = target["outputs" if target is subgraph else "inputs"][link["target_slot"]]
        assert given["type"] == link["type"] and given["type"] in taken["type"].split(","), link
        assert link["id"] in (given.get("links") or given.get("linkIds"))
        assert link["id"] in (taken.get("linkIds") or [taken["link"]])


@pytest.mark.parametrize("file", BLUEPRINTS, ids=lambda file: file.stem)
def test_its_nodes_are_as_they_are_today(file: Path) -> None:
    _, subgraph = opened(file)
    for node in subgraph["nodes"]:
        if node["type"] not in SURFACE:
            continue
        surface = SURFACE[node["type"]]
        described = {**surface["input"].get("required", {}), **surface["input"].get("optional", {})}
        assert [input["name"] for input in node["inputs"]] == list(described)
        assert [input["type"] for input in node["inputs"]] == [kind for kind, _ in described.values()]
        assert [output["name"] for output in node["outputs"]] == surface["output_name"]
        values = iter(node["widgets_values"])
        for name, (kind, options) in described.items():
            if kind in WIDGETS:
                value = next(values)
                assert value in options.get("options", [value]), f"{node['type']}.{name}"
                assert options.get("min", value) <= value <= options.get("max", value)
                if options.get("control_after_generate"):
                    assert next(values) == "fixed"
        assert list(values) == []


def test_the_first_template_has_the_blueprint_of_the_tiny_model() -> None:
    graph, subgraph = opened(START)
    assert subgraph == opened(ROOT / "subgraphs" / "Image to Video (tiny model).json")[1]
    assert len(graph["nodes"]) <= 5
