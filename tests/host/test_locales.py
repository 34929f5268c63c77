"""Words that users see: locales/en holds what the nodes say of themselves, and the server hands out all of it.

After a change of a node's words: `make locales`, then locales/zh and web/docs by hand.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from dataclasses import fields
from typing import Any

import pytest
from comfy_api.latest import io
from comfyui_firstframe_pack.nodes import types
from harness import ROOT, Server

ENGLISH, CHINESE = ROOT / "locales" / "en", ROOT / "locales" / "zh"
SOCKETS = [socket.io_type for socket in vars(types).values() if hasattr(socket, "io_type")]


@pytest.fixture(scope="module")
def nodes(server: Server) -> dict[str, Any]:
    """What the server says of our nodes, by id."""
    return {id: info for id, info in sorted(server.get("object_info").items()) if id.startswith("FirstFrame")}


def node_texts(info: dict[str, Any]) -> dict[str, Any]:
    """A node in the words of its definition, as the host's nodeDefs.json has them."""
    inputs = {name: options for group in ("required", "optional") for name, options in _inputs(info, group)}
    outputs = {
        str(index): {"name": name} | ({"tooltip": tooltip} if tooltip else {})
        for index, (name, tooltip) in enumerate(zip(info["output_name"], info["output_tooltips"], strict=True))
    }
    return {
        "display_name": info["display_name"],
        "description": info["description"],
        "inputs": {name: {"name": name, "tooltip": options["tooltip"]} for name, options in inputs.items()},
        "outputs": outputs,
    }


def _inputs(info: dict[str, Any], group: str) -> list[tuple[str, dict[str, Any]]]:
    return [(name, options) for name, (_, options) in info["input"].get(group, {}).items()]


def shared_texts(nodes: dict[str, Any]) -> dict[str, Any]:
    """Words that several nodes share, as the host's main.json has them: parts of categories, and our sockets."""
    categories = sorted({part for info in nodes.values() for part in info["category"].split("/")})
    return {
        "nodeCategories": {part: part for part in categories},
        "dataTypes": {socket: socket for socket in sorted(SOCKETS)},
    }


def test_english_is_what_the_nodes_say(nodes: dict[str, Any]) -> None:
    said = {"nodeDefs": {id: node_texts(info) for id, info in nodes.items()}, "main": shared_texts(nodes)}
    for name, texts in said.items():
        file = ENGLISH / f"{name}.json"
        if os.environ.get("FIRSTFRAME_FREEZE"):
            file.write_text(json.dumps(texts, indent=1, ensure_ascii=False) + "\n", "utf-8")
        assert json.loads(file.read_text("utf-8")) == texts, f"{file} is out of date: make locales"


@pytest.mark.parametrize("folder", [ENGLISH, CHINESE], ids=["en", "zh"])
def test_the_server_hands_out_the_texts(server: Server, folder: Any) -> None:
    main, nodes = (json.loads((folder / f"{name}.json").read_text("utf-8")) for name in ("main", "nodeDefs"))
    assert server.get("i18n")[folder.name] == {**main, "nodeDefs": nodes}


def help_page(server: Server, id: str, info: dict[str, Any], locale: str) -> str:
    """A node's help, asked for as the editor does: the page in the language, else the one without."""
    folder = f"http://{server.address}/extensions/{info['python_module'].split('.')[1]}/docs"
    try:
        response = urllib.request.urlopen(f"{folder}/{id}/{locale}.md")
    except urllib.error.HTTPError:
        response = urllib.request.urlopen(f"{folder}/{id}.md")
    with response:
        return response.read().decode()


def test_the_server_hands_out_the_help(server: Server, nodes: dict[str, Any]) -> None:
    docs = ROOT / "web" / "docs"
    for id, info in nodes.items():
        assert help_page(server, id, info, "en") == (docs / f"{id}.md").read_text("utf-8")
        assert help_page(server, id, info, "zh") == (docs / id / "zh.md").read_text("utf-8")


def test_every_node_is_found_by_other_words_where_the_host_knows_them(nodes: dict[str, Any]) -> None:
    known = "search_aliases" in {field.name for field in fields(io.Schema)}
    for id, info in nodes.items():
        assert bool(info.get("search_aliases")) == known, id
