"""A workflow in ComfyUI's API format: reading it, naming its inputs, finding those that a batch varies."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import FirstFrameError

Graph = dict[str, dict[str, Any]]
"""Nodes by id: ``{"class_type": …, "inputs": {name: value or [id, output]}, "_meta": {"title": …}}``."""

EXAMPLE_IMAGE = "FirstFrameExamplePicture"
LOAD_IMAGE = "LoadImage"
SEED_NAMES = ("seed", "noise_seed")


@dataclass(frozen=True, order=True)
class Place:
    """One input of one node."""

    node: str
    input: str

    def __str__(self) -> str:
        return f"{self.node}.{self.input}"


def read_workflow(path: Path) -> Graph:
    """The graph in a file.

    Raises:
        FirstFrameError: The file is no JSON, or holds something else; the browser's own format is named.
    """
    if not path.is_file():
        raise FirstFrameError(f"{path}: there is no such file; give a workflow in API format")
    try:
        graph = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FirstFrameError(f"{path}: cannot be read as a workflow: {error}") from error
    if isinstance(graph, dict) and isinstance(graph.get("nodes"), list):
        raise FirstFrameError(f"{path} is in the browser's format; in ComfyUI, export it once more with Export (API)")
    if not _is_graph(graph):
        raise FirstFrameError(f"{path} is not a workflow in API format: nodes by id, with class_type and inputs")
    return graph


def _is_graph(graph: Any) -> bool:
    nodes = graph.values() if isinstance(graph, dict) else [None]
    return bool(graph) and all(isinstance(node, dict) and _is_node(node, graph) for node in nodes)


def _is_node(node: dict[str, Any], graph: dict[str, Any]) -> bool:
    inputs, title = node.get("inputs"), node.get("_meta", {})
    if not (isinstance(node.get("class_type"), str) and isinstance(inputs, dict) and isinstance(title, dict)):
        return False
    return all(value[0] in graph for value in inputs.values() if _is_link(value))


def find_place(graph: Graph, name: str) -> Place:
    """The input that ``node.input`` names; the node by its id, title or class.

    Raises FirstFrameError where no node or more than one is meant, or the node lacks the input; it lists what there is.
    """
    node, dot, input = name.rpartition(".")
    if not dot:
        raise FirstFrameError(f"{name!r}: an input is named as node.input, for example KSampler.steps")
    id = _find_node(graph, node)
    inputs = graph[id]["inputs"]
    if input not in inputs:
        raise FirstFrameError(f"{name!r}: {_described(graph, id)} has no input {input!r}, but {', '.join(inputs)}")
    return Place(id, input)


def _find_node(graph: Graph, name: str) -> str:
    if name in graph:
        return name
    found = [id for id in graph if name in (_title(graph, id), graph[id]["class_type"])]
    if len(found) == 1:
        return found[0]
    listed = "; ".join(_described(graph, id) for id in found or graph)
    if found:
        raise FirstFrameError(f"{name!r} names {len(found)} nodes; take an id: {listed}")
    raise FirstFrameError(f"{name!r} names no node. There are: {listed}")


def _title(graph: Graph, id: str) -> str:
    return str(graph[id].get("_meta", {}).get("title", ""))


def _described(graph: Graph, id: str) -> str:
    kind, title = graph[id]["class_type"], _title(graph, id)
    return f"{id} ({kind})" if title in ("", kind) else f"{id} ({kind}, {title!r})"


def set_value(graph: Graph, place: Place, text: str) -> None:
    """Set an input from the command line: a text stays a text, everything else is read as JSON."""
    inputs = graph[place.node]["inputs"]
    before = inputs[place.input]
    try:
        value = text if isinstance(before, str) else json.loads(text)
    except ValueError as error:
        raise FirstFrameError(f"{place} is {before!r} in the workflow, and {text!r} is no such value") from error
    if isinstance(before, bool) != isinstance(value, bool) and not isinstance(before, list):
        raise FirstFrameError(f"{place} is {before!r} in the workflow, and {text!r} is no such value")
    inputs[place.input] = value


def with_values(graph: Graph, values: dict[Place, Any]) -> Graph:
    """A copy of the graph with other values."""
    edited = copy.deepcopy(graph)
    for place, value in values.items():
        edited[place.node]["inputs"][place.input] = value
    return edited


def with_image_input(graph: Graph, name: str | None) -> tuple[Graph, Place]:
    """The graph, and the input that takes an uploaded image's name.

    Where none is named: that of the only LoadImage. Where there is no LoadImage, FirstFrame's example image makes
    room for one.
    """
    if name is not None:
        return graph, find_place(graph, name)
    kinds = {id: node["class_type"] for id, node in graph.items()}
    loaders = [id for id, kind in kinds.items() if kind == LOAD_IMAGE]
    if not loaders:
        loaders = [id for id, kind in kinds.items() if kind == EXAMPLE_IMAGE]
        graph = {**graph, **{id: {"class_type": LOAD_IMAGE, "inputs": {"image": ""}} for id in loaders}}
    places = [Place(id, "image") for id in loaders]
    return graph, _only(graph, places, "images", "--image-input", "there is no LoadImage")


def prompt_input(graph: Graph, name: str | None) -> Place:
    """The input that takes the prompt. Where none is named: the only text that leads to a ``positive`` input, or, in
    graphs without any, to a ``conditioning`` input."""
    if name is not None:
        return find_place(graph, name)
    ends = _links(graph, "positive") or _links(graph, "conditioning")
    places = sorted({place for end in ends for place in _texts_before(graph, end)})
    return _only(graph, places, "prompts", "--prompt-input", "no text leads to an input named positive or conditioning")


def seed_inputs(graph: Graph, names: Iterable[str]) -> list[Place]:
    """The inputs that take the seed. Where none is named: every ``seed`` and ``noise_seed`` that is a number."""
    named = [find_place(graph, name) for name in names]
    found = named or [
        place for place in _places(graph, lambda value: isinstance(value, int)) if place.input in SEED_NAMES
    ]
    if not found:
        raise FirstFrameError("--seeds: no input is named seed or noise_seed; name one with --seed-input node.input")
    return found


def _only(graph: Graph, places: list[Place], what: str, option: str, none: str) -> Place:
    if len(places) == 1:
        return places[0]
    if not places:
        raise FirstFrameError(f"where do the {what} go? {none}; name the input with {option} node.input")
    listed = "; ".join(f"{place} = {_value(graph, place)!r} in {_described(graph, place.node)}" for place in places)
    raise FirstFrameError(f"where do the {what} go? Name one with {option}: {listed}")


def _value(graph: Graph, place: Place) -> Any:
    return graph[place.node]["inputs"][place.input]


def _places(graph: Graph, is_meant: Callable[[Any], bool]) -> Iterator[Place]:
    for id, node in graph.items():
        yield from (Place(id, input) for input, value in node["inputs"].items() if is_meant(value))


def _is_link(value: Any) -> bool:
    """As ComfyUI tells them: the id of a node, and the number of its output."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int)


def _links(graph: Graph, input: str) -> list[str]:
    """Ids of the nodes that are linked to an input of this name, anywhere."""
    return [_value(graph, place)[0] for place in _places(graph, _is_link) if place.input == input]


def _texts_before(graph: Graph, start: str) -> Iterator[Place]:
    """Texts upstream of a node, not looking through what is named negative, nor behind a text."""
    todo, seen = [start], set()
    while todo:
        id = todo.pop()
        if id in seen:
            continue
        seen.add(id)
        inputs = graph[id]["inputs"]
        if isinstance(inputs.get("text"), str):
            yield Place(id, "text")
        else:
            todo += [value[0] for input, value in inputs.items() if _is_link(value) and input != "negative"]
