"""Workflows name where their files come from, so that ComfyUI's editor offers them for download.

After a change of the manifest or of a workflow: FIRSTFRAME_FREEZE=1 pytest tests/weights/hub/test_editor.py
"""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path

import pytest

from firstframe.weights.hub.editor import add_models, all_nodes, as_model
from firstframe.weights.hub.manifest import FOLDER, published, weight_set

GRAPHS = sorted([*FOLDER.parent.glob("workflows/*.json"), *FOLDER.parent.glob("subgraphs/*.json")])
OFFERED = ("https://huggingface.co/", (".safetensors", ".sft", ".ckpt", ".pth", ".pt"))  # what the editor downloads
SUFFIXES = OFFERED[1]
OWN_CHOICE = {"your_lora.safetensors"}


@pytest.mark.parametrize("file", GRAPHS, ids=lambda file: file.stem)
def test_a_workflow_says_where_its_files_are_published(file: Path) -> None:
    graph = json.loads(file.read_text("utf-8"))
    expected = copy.deepcopy(graph)
    add_models(expected)
    if os.environ.get("FIRSTFRAME_FREEZE") and expected != graph:
        file.write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n", "utf-8")
        graph = json.loads(file.read_text("utf-8"))
    assert graph == expected
    for node in all_nodes(graph):
        offered = {model["name"] for model in node["properties"].get("models", [])}
        named = {value for value in node.get("widgets_values") or () if str(value).endswith(SUFFIXES)}
        assert named - OWN_CHOICE == offered, node["type"]


def test_an_entry_as_the_editor_reads_it() -> None:
    assert as_model(weight_set("animatediff-v2")) == {
        "name": "mm_sd_v15_v2.ckpt",
        "url": "https://huggingface.co/guoyww/animatediff/resolve/main/mm_sd_v15_v2.ckpt",
        "directory": "animatediff_models",
        "hash": weight_set("animatediff-v2").sha256,
        "hash_type": "SHA256",
    }
    assert "hash" not in as_model(weight_set("pia"))


def test_the_editor_downloads_from_these_addresses() -> None:
    for model in map(as_model, published()):
        assert model["url"].startswith(OFFERED[0]) and model["name"].endswith(OFFERED[1])
