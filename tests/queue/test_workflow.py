"""Naming inputs of a workflow, and finding those that a batch varies: in the workflows that ship and in small ones."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from firstframe.errors import FirstFrameError
from firstframe.queue.workflow import (
    Place,
    find_place,
    prompt_input,
    read_workflow,
    seed_inputs,
    set_value,
    with_image_input,
    with_values,
)

SHIPPED = Path(__file__).parents[2] / "workflows" / "api"


def node(kind: str, title: str = "", **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs, "_meta": {"title": title}}


GRAPH = {
    "1": node("CLIPTextEncode", "What is seen", text="a fish", clip=["9", 1]),
    "2": node("CLIPTextEncode", "What is not", text="blurry", clip=["9", 1]),
    "3": node("ControlNetApplyAdvanced", positive=["1", 0], negative=["2", 0], strength=1.0),
    "4": node("KSampler", positive=["3", 0], negative=["3", 1], seed=7, steps=20, tiled=False, model=["9", 0]),
    "5": node("LoadImage", "Start", image="a.png"),
    "6": node("Prior", seed=1),
    "9": node("Loader", "v1.5 model"),
}


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("4.steps", Place("4", "steps")),
        ("KSampler.steps", Place("4", "steps")),
        ("What is not.text", Place("2", "text")),
    ],
)
def test_a_node_is_named_by_id_title_or_class(name: str, place: Place) -> None:
    assert find_place(GRAPH, name) == place


def test_a_title_may_have_dots() -> None:
    graph = {**GRAPH, "9": node("Loader", "v1.5 model", name="x")}
    assert find_place(graph, "v1.5 model.name") == Place("9", "name")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("CLIPTextEncode.text", r"names 2 nodes.*1 \(CLIPTextEncode, 'What is seen'\); 2 \("),
        ("Sampler.steps", r"no node. There are: .*4 \(KSampler\)"),
        ("KSampler.step", r"4 \(KSampler\) has no input 'step', but positive, negative, seed, steps"),
        ("steps", "node.input"),
    ],
)
def test_what_is_not_meant_clearly_is_told_with_what_there_is(name: str, told: str) -> None:
    with pytest.raises(FirstFrameError, match=told):
        find_place(GRAPH, name)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("1.text", "5", "5"),
        ("4.steps", "8", 8),
        ("3.strength", "0.5", 0.5),
        ("4.tiled", "true", True),
        ("4.seed", "3", 3),
    ],
)
def test_values_keep_their_kind(name: str, text: str, value: object) -> None:
    graph = copy.deepcopy(GRAPH)
    place = find_place(graph, name)
    set_value(graph, place, text)
    changed = graph[place.node]["inputs"][place.input]
    assert changed == value and type(changed) is type(value)


@pytest.mark.parametrize(("name", "text"), [("4.steps", "many"), ("4.tiled", "1"), ("4.steps", "true")])
def test_a_value_of_another_kind_is_refused(name: str, text: str) -> None:
    with pytest.raises(FirstFrameError, match=f"{name} is"):
        set_value(copy.deepcopy(GRAPH), find_place(GRAPH, name), text)


def test_the_prompt_is_the_text_that_leads_to_positive() -> None:
    assert prompt_input(GRAPH, None) == Place("1", "text")
    assert prompt_input(GRAPH, "2.text") == Place("2", "text")


def test_two_prompts_are_listed() -> None:
    graph = {**GRAPH, "7": node("KSampler", positive=["8", 0]), "8": node("CLIPTextEncode", text="a star")}
    with pytest.raises(FirstFrameError, match=r"--prompt-input: 1.text = 'a fish' in 1 .*; 8.text = 'a star'"):
        prompt_input(graph, None)


def test_seeds_are_all_that_are_numbers() -> None:
    linked = {**GRAPH, "7": node("RandomNoise", noise_seed=5), "8": node("KSampler", seed=["7", 0])}
    assert seed_inputs(linked, []) == [Place("4", "seed"), Place("6", "seed"), Place("7", "noise_seed")]
    assert seed_inputs(linked, ["6.seed"]) == [Place("6", "seed")]


def test_images_go_into_the_only_load_image() -> None:
    assert with_image_input(GRAPH, None) == (GRAPH, Place("5", "image"))
    with pytest.raises(FirstFrameError, match=r"5.image = 'a.png' in 5 .*; 8.image = 'b.png'"):
        with_image_input({**GRAPH, "8": node("LoadImage", image="b.png")}, None)
    with pytest.raises(FirstFrameError, match="--image-input"):
        with_image_input({"4": GRAPH["4"]}, None)


@pytest.mark.parametrize("file", sorted(SHIPPED.glob("*.json")), ids=lambda file: file.stem)
def test_the_workflows_that_ship_take_images_and_seeds(file: Path) -> None:
    graph, place = with_image_input(read_workflow(file), None)
    edited = with_values(graph, {place: "x.png", **dict.fromkeys(seed_inputs(graph, []), 99)})
    assert edited[place.node] == {**edited[place.node], "class_type": "LoadImage", "inputs": {"image": "x.png"}}
    seeds = [value for each in edited.values() for name, value in each["inputs"].items() if name.endswith("seed")]
    assert seeds and set(seeds) == {99}


@pytest.mark.parametrize("name", ["quickstart", "retention", "i2v_adapter_official", "context_windows"])
def test_the_prompt_of_a_workflow_that_ships_is_found(name: str) -> None:
    graph = read_workflow(SHIPPED / f"{name}.json")
    texts = [each for each in graph.values() if each["class_type"] == "CLIPTextEncode"]
    assert graph[prompt_input(graph, None).node] == texts[0]


def test_the_browsers_format_and_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FirstFrameError, match=r"Export \(API\)"):
        read_workflow(SHIPPED.parent / "One image, many actions.json")
    for content in ("[1]", "{}", '{"1": {"inputs": {}}}', "text"):
        file = tmp_path / "x.json"
        file.write_text(content, "utf-8")
        with pytest.raises(FirstFrameError, match=r"x\.json"):
            read_workflow(file)


@pytest.mark.parametrize(
    "graph",
    [
        "[" * 100_000,
        '{"1": {"class_type": "A", "inputs": null}}',
        '{"1": {"class_type": null, "inputs": {}}}',
        '{"1": {"class_type": "A", "inputs": {}, "_meta": null}}',
        '{"1": {"class_type": "A", "inputs": {"model": ["2", 0]}}}',
    ],
    ids=["deep", "inputs", "class", "title", "link to nowhere"],
)
def test_a_damaged_workflow_is_refused(tmp_path: Path, graph: str) -> None:
    (tmp_path / "damaged.json").write_text(graph)
    with pytest.raises(FirstFrameError, match=r"damaged\.json"):
        read_workflow(tmp_path / "damaged.json")


def test_two_numbers_are_no_link(tmp_path: Path) -> None:
    (tmp_path / "numbers.json").write_text('{"1": {"class_type": "A", "inputs": {"range": [0.1, 0.9]}}}')
    assert read_workflow(tmp_path / "numbers.json")["1"]["inputs"]["range"] == [0.1, 0.9]


def test_editing_leaves_the_workflow_as_it_was() -> None:
    before = json.dumps(GRAPH)
    assert with_values(GRAPH, {Place("4", "seed"): 3})["4"]["inputs"]["seed"] == 3
    assert json.dumps(GRAPH) == before
