"""What saved workflows rely on: ids, inputs with their defaults, outputs. Frozen in object_info.json.

A node may get more inputs, at the end and with a default; nothing else in the file may change. After such a change:
FIRSTFRAME_FREEZE=1 python tests/host/run.py -k contract
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from harness import ROOT, Server

FROZEN = Path(__file__).parent / "object_info.json"
FIELDS = ("input", "input_order", "output", "output_name", "output_is_list", "display_name", "category", "output_node")
VARYING = {
    "motion_module",
    "motion_lora",
    "adapter",
    "content_adapter",
    "projections",
    "retention",
    "sampler_name",
    "scheduler",
}
OPTIONS = ("default", "min", "max", "step", "options", "control_after_generate")


def surface(info: dict[str, Any]) -> dict[str, Any]:
    """The part of a node's description that every version of the host has."""
    kept = {field: info[field] for field in FIELDS}
    kept["input"] = {
        kind: {name: _stable(name, description) for name, description in inputs.items()}
        for kind, inputs in info["input"].items()
        if kind != "hidden"
    }
    kept["input_order"] = {kind: names for kind, names in info["input_order"].items() if kind != "hidden"}
    return kept


def _stable(name: str, description: list[Any]) -> list[Any]:
    """Type and limits of an input, without the files and samplers that happen to be there."""
    kind, options = description
    if kind == "COMBO" and name in VARYING:
        return [kind, {}]
    return [kind, {option: options[option] for option in OPTIONS if option in options}]


def test_the_surface_of_the_nodes_is_frozen(server: Server) -> None:
    nodes = {name: info for name, info in server.get("object_info").items() if name.startswith("FirstFrame")}
    found = {name: surface(info) for name, info in sorted(nodes.items())}
    if os.environ.get("FIRSTFRAME_FREEZE"):
        FROZEN.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    assert found == json.loads(FROZEN.read_text("utf-8"))


def test_every_node_and_input_is_explained(server: Server) -> None:
    for name, info in server.get("object_info").items():
        if name.startswith("FirstFrame"):
            assert info["description"], name
            assert (ROOT / "web" / "docs" / f"{name}.md").is_file(), name
            for inputs in (info["input"].get("required", {}), info["input"].get("optional", {})):
                for id, (_, options) in inputs.items():
                    assert options["tooltip"], f"{name}.{id}"
