"""Published weights in a workflow, in the form from which ComfyUI's editor offers missing files for download."""

from __future__ import annotations

from typing import Any

from .manifest import WeightSet, published

Node = dict[str, Any]
"""A node of a workflow as the editor saves it."""


def as_model(entry: WeightSet) -> dict[str, str]:
    """An entry as an item of a node's ``properties.models``."""
    model = {"name": entry.file, "url": entry.sources[0].url(), "directory": entry.folder}
    return model | ({"hash": entry.sha256, "hash_type": "SHA256"} if entry.sha256 else {})


def models_of(node: Node) -> list[dict[str, str]]:
    """The published files that the widgets of ``node`` name."""
    values = node.get("widgets_values") or ()
    return [as_model(entry) for entry in published() if entry.file in values]


def all_nodes(workflow: dict[str, Any]) -> list[Node]:
    """The nodes of a workflow, those inside its subgraphs included."""
    subgraphs = workflow.get("definitions", {}).get("subgraphs", [])
    return [node for graph in (workflow, *subgraphs) for node in graph["nodes"]]


def add_models(workflow: dict[str, Any]) -> None:
    """Bring ``properties.models`` of every node in line with the manifest."""
    for node in all_nodes(workflow):
        properties = {name: value for name, value in node["properties"].items() if name != "models"}
        models = models_of(node)
        node["properties"] = properties | ({"models": models} if models else {})
