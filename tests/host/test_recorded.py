"""The latents that shipped workflows make on the CPU, against those recorded when they last changed on purpose.

``FIRSTFRAME_FREEZE=1`` records them anew. ``FIRSTFRAME_EXACT=1`` asks for the same bits, which holds on one machine
with one version of PyTorch.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from device import CPU, chosen_device
from harness import Graph, Server, workflow
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

pytestmark = pytest.mark.skipif(chosen_device() != CPU, reason="what is recorded was computed on a CPU")

RECORDED = Path(__file__).parent / "recorded.safetensors"
WORKFLOWS = ("quickstart", "retention", "context_windows", "strength_over_time", "one_image_many_actions")
RELATIVE = 2e-3
"""Halves are recorded; the rest is what another CPU rounds otherwise."""


def only_latents(graph: Graph) -> Graph:
    """The graph up to its first sampler, whose latents are saved."""
    decoder = next(node for node in graph.values() if node["class_type"] == "VAEDecode")
    decoder["class_type"] = "SaveLatent"
    decoder["inputs"] = {"samples": decoder["inputs"]["samples"], "filename_prefix": "latents"}
    wanted, queue = {}, [key for key, node in graph.items() if node is decoder]
    while queue:
        key = queue.pop()
        wanted[key] = graph[key]
        queue += [value[0] for value in graph[key]["inputs"].values() if isinstance(value, list)]
    return wanted


def digest(latents: Tensor) -> str:
    return hashlib.sha256(latents.contiguous().numpy().tobytes()).hexdigest()


def record(name: str, latents: Tensor) -> None:
    tensors, digests = {}, {}
    if RECORDED.exists():
        tensors = load_file(RECORDED)
        with safe_open(RECORDED, "pt") as file:
            digests = file.metadata()
    save_file({**tensors, name: latents.half()}, RECORDED, {**digests, name: digest(latents)})


@pytest.mark.parametrize("name", WORKFLOWS)
def test_latents_are_those_recorded(server: Server, name: str) -> None:
    outcome = server.run(only_latents(workflow(name)))
    assert outcome.event == "execution_success", outcome.data
    (saved,) = [file for node in outcome.outputs.values() for file in node["latents"]]
    latents = load_file(server.base / "output" / saved["subfolder"] / saved["filename"])["latent_tensor"]
    if os.environ.get("FIRSTFRAME_FREEZE"):
        record(name, latents)
    expected = load_file(RECORDED)[name].float()
    assert (latents - expected).norm() < RELATIVE * expected.norm()
    if os.environ.get("FIRSTFRAME_EXACT"):
        with safe_open(RECORDED, "pt") as file:
            assert digest(latents) == file.metadata()[name]
