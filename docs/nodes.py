"""Write nodes.md: every node with its inputs and outputs.

    python docs/nodes.py

Types, defaults and limits are those of the contract (tests/host/object_info.json), words those that the nodes say of
themselves (locales/en/nodeDefs.json). ``make locales`` brings both up to date.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "nodes.md"
CONTRACT = ROOT / "tests" / "host" / "object_info.json"
WORDS = ROOT / "locales" / "en" / "nodeDefs.json"

INTRODUCTION = (
    "# Nodes\n\n"
    "Every node of the pack with its inputs and outputs; `docs/nodes.py` writes this page. Ids, inputs and defaults "
    "are frozen: a saved workflow keeps loading. Each node has its help page inside ComfyUI too.\n"
)


def slug(heading: str) -> str:
    """The anchor that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def page() -> str:
    """The whole page."""
    nodes, words = (json.loads(file.read_text("utf-8")) for file in (CONTRACT, WORDS))
    by_category = sorted(nodes, key=lambda id: (nodes[id]["category"], nodes[id]["display_name"]))
    sections = [section(id, nodes[id], words[id]) for id in by_category]
    return "\n".join([INTRODUCTION, *index(by_category, nodes), "", *sections])


def index(ids: list[str], nodes: dict[str, Any]) -> Iterator[str]:
    """A table of all nodes, category after category."""
    yield "| node | id | in | out |"
    yield "|---|---|---|---|"
    for category, members in groupby(ids, key=lambda id: str(nodes[id]["category"])):
        yield f"| **{category.removeprefix('FirstFrame/')}** | | | |"
        for id in members:
            name = nodes[id]["display_name"]
            sockets = [kind for _, kind, options in inputs_of(nodes[id]) if not options and kind != "COMBO"]
            yield f"| [{name}](#{slug(name)}) | `{id}` | {', '.join(sockets)} | {', '.join(nodes[id]['output'])} |"


def inputs_of(node: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Name, type and options of every input, in order."""
    for inputs in node["input"].values():
        for name, (kind, options) in inputs.items():
            yield name, kind, options


def section(id: str, node: dict[str, Any], words: dict[str, Any]) -> str:
    """A node."""
    lines = [f"## {node['display_name']}", "", f"`{id}`, {node['category']} · [help](../web/docs/{id}.md)", ""]
    lines += [words["description"], ""]
    optional = node["input"].get("optional", {})
    rows = [
        f"| {name}{' (optional)' if name in optional else ''} | {kind_of(kind, options)} | {default_of(options)} "
        f"| {in_a_cell(words['inputs'][name]['tooltip'])} |"
        for name, kind, options in inputs_of(node)
    ]
    if rows:
        lines += ["| input | type | default | |", "|---|---|---|---|", *rows, ""]
    outputs = [
        f"`{name}`" if name == kind else f"`{name}` ({kind})"
        for name, kind in zip(node["output_name"], node["output"], strict=True)
    ]
    lines += [f"Outputs: {', '.join(outputs) or 'none, it writes a file'}.", ""]
    return "\n".join(lines)


def kind_of(kind: str, options: dict[str, Any]) -> str:
    """A type with its limits or choices."""
    if "options" in options:
        return in_a_cell(" / ".join(map(str, options["options"])))
    if "min" in options and options["max"] < 2**32:
        return f"{kind}, {options['min']} to {options['max']}"
    return "one of those that are there" if kind == "COMBO" else kind


def default_of(options: dict[str, Any]) -> str:
    """The default, if there is one."""
    return in_a_cell(str(options["default"])) if "default" in options else ""


def in_a_cell(text: str) -> str:
    """A text that does not end its table's cell."""
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
