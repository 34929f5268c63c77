"""Interrupt is obeyed within two seconds: loading, encoding, sampling, measuring, matching colours, saving."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import comfy.model_management
import pytest
import torch
from comfy.model_management import InterruptProcessingException, interrupt_current_processing
from comfyui_firstframe_pack.firstframe.bindings.comfy.motion import apply_motion
from comfyui_firstframe_pack.firstframe.bindings.comfy.weights import load_in_host
from comfyui_firstframe_pack.firstframe.clips.color import match_color
from comfyui_firstframe_pack.firstframe.clips.metrics.per_frame import frame_numbers
from comfyui_firstframe_pack.firstframe.errors import INTERRUPT
from comfyui_firstframe_pack.firstframe.tiny.comfy import load_tiny_vae
from comfyui_firstframe_pack.firstframe.tiny.files import weights_file
from comfyui_firstframe_pack.firstframe.weights import MOTION_MODULE
from comfyui_firstframe_pack.nodes.reference import EncodeReference
from cut_down import vision
from harness import Graph, Server, find_node, quickstart
from small import ksample, small_model, small_motion

SECONDS = 2.0
FRAMES = torch.zeros(3, 32, 32, 3)
WORK: dict[str, Callable[[], Any]] = {
    "loading": lambda: load_in_host(MOTION_MODULE, weights_file("motion_module")),
    "sampling": lambda: ksample(apply_motion(small_model(), small_motion(), 1.0, "keep")),
    "matching colours": lambda: match_color(FRAMES, FRAMES[0]),
    "measuring": lambda: frame_numbers(FRAMES, FRAMES[0]),
}


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As the nodes are set up, with the button pressed."""
    monkeypatch.setattr(INTERRUPT, "check", comfy.model_management.throw_exception_if_processing_interrupted)
    yield
    interrupt_current_processing(False)


@pytest.mark.parametrize("network", ["vae", "clip_vision"])
def test_encoding_stops_between_two_layers(interrupted: None, network: str) -> None:
    """An image in the host's largest VAE takes minutes on a CPU."""
    vae, encoder = load_tiny_vae(), vision()
    module = {"vae": vae.first_stage_model, "clip_vision": encoder.model}[network]
    layers = [layer for layer in module.modules() if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear)]
    handle = layers[1].register_forward_hook(lambda *_: interrupt_current_processing())
    calls: list[int] = []
    for layer in layers:
        layer.register_forward_hook(lambda *_: calls.append(1))
    with pytest.raises(InterruptProcessingException):
        EncodeReference.execute(torch.rand(1, 64, 64, 3), vae, 64, 64, "cover", encoder)
    handle.remove()
    assert calls == [1, 1]
    EncodeReference.execute(torch.rand(1, 64, 64, 3), vae, 64, 64, "cover", encoder)
    assert len(calls) > 10 and not any(layer._forward_pre_hooks for layer in layers)


@pytest.mark.parametrize("what", WORK)
def test_work_asks_whether_it_is_wanted(interrupted: None, what: str) -> None:
    work = WORK[what]
    interrupt_current_processing()
    with pytest.raises(InterruptProcessingException):
        work()
    work()


def many_frames(graph: Graph) -> Graph:
    """Saved, measured and matched, which takes longer than two seconds each."""
    decoded = find_node(graph, "FirstFrameSaveVideo")["inputs"]["images"]
    graph["90"] = {"class_type": "RepeatImageBatch", "inputs": {"image": decoded, "amount": 64}}
    find_node(graph, "FirstFrameSaveVideo")["inputs"]["images"] = ["90", 0]
    return graph


def upscaled(graph: Graph) -> Graph:
    large = {"upscale_method": "bilinear", "width": 768, "height": 768, "crop": "disabled"}
    graph["91"] = {"class_type": "ImageScale", "inputs": {"image": ["90", 0], **large}}
    return graph


def saving(graph: Graph) -> str:
    upscaled(many_frames(graph))
    saver = next(name for name, node in graph.items() if node["class_type"] == "FirstFrameSaveVideo")
    graph[saver]["inputs"].update(images=["91", 0], format="webp")
    return saver


def matching(graph: Graph) -> str:
    upscaled(many_frames(graph))
    graph["92"] = {"class_type": "FirstFrameColorMatch", "inputs": {"images": ["91", 0], "picture": ["2", 0]}}
    graph["92"]["inputs"]["official"] = False
    find_node(graph, "FirstFrameSaveVideo")["inputs"]["images"] = ["92", 0]
    return "92"


@pytest.mark.parametrize("node_of", [saving, matching])
def test_a_running_server_stops(server: Server, node_of: Callable[[Graph], str]) -> None:
    graph = quickstart(seed=77)
    node = node_of(graph)
    times: dict[str, float] = {}

    def press() -> None:
        times["pressed"] = time.monotonic()
        server.interrupt()

    def watch(event: str, data: dict[str, Any]) -> None:
        if event == "executing" and data.get("node") == node:
            threading.Timer(0.5, press).start()

    outcome = server.run(graph, watch)
    taken = time.monotonic() - times["pressed"]
    assert outcome.event == "execution_interrupted", outcome.data
    assert taken < SECONDS
    output: Path = server.base / "output"
    assert not list(output.glob("**/.firstframe-*")), "an unfinished file stays"
