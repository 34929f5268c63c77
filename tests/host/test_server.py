"""The quickstart through the real server: queue, wait, look at the file, cancel, run again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from comfyui_firstframe_pack.firstframe.clips.reference import prepare_image
from comfyui_firstframe_pack.firstframe.clips.video import read_clip
from comfyui_firstframe_pack.firstframe.tiny.files import weights_file
from comfyui_firstframe_pack.nodes.load import EXAMPLE_IMAGE
from harness import STEPS, Graph, Server, find_node, quickstart, rerun, saved_frames

pytestmark = pytest.mark.feature("KSampler, KSamplerAdvanced, SamplerCustomAdvanced")


def test_quickstart_makes_a_video_that_starts_with_the_image(server: Server) -> None:
    outcome = server.run(quickstart())
    assert outcome.event == "execution_success", outcome.data
    clip = read_clip(server.output_file(outcome))
    assert clip.frames.shape == (16, 128, 128, 3)
    assert clip.fps == 8
    image = prepare_image(EXAMPLE_IMAGE, 128, 128)[0].movedim(0, -1)
    error = (clip.frames[0] / 255 - image).abs().mean()
    assert error < 0.05
    assert json.loads(clip.metadata["prompt"]) == quickstart()
    assert "workflow" in clip.metadata


def test_a_cancelled_run_leaves_the_next_one_as_it_was(server: Server) -> None:
    def cancel(event: str, data: dict[str, Any]) -> None:
        if event == "progress" and data["value"] == 2:
            server.interrupt()

    first = server.run(quickstart(seed=1))
    cancelled = server.run(quickstart(seed=2), cancel)
    again = server.run(rerun(quickstart(seed=1)))
    assert cancelled.event == "execution_interrupted"
    assert server.output_file(first) != server.output_file(again)
    frames, frames_again = (read_clip(server.output_file(outcome)).frames for outcome in (first, again))
    assert torch.equal(frames, frames_again)


def custom_sampling(graph: Graph, sampler: dict[str, Any]) -> None:
    """SamplerCustomAdvanced with its four helpers."""
    conditionings = {name: sampler[name] for name in ("model", "positive", "negative", "cfg")}
    schedule = {"model": sampler["model"], "scheduler": sampler["scheduler"], "steps": STEPS, "denoise": 1.0}
    graph["90"] = {"class_type": "RandomNoise", "inputs": {"noise_seed": sampler["seed"]}}
    graph["91"] = {"class_type": "CFGGuider", "inputs": conditionings}
    graph["92"] = {"class_type": "KSamplerSelect", "inputs": {"sampler_name": sampler["sampler_name"]}}
    graph["93"] = {"class_type": "BasicScheduler", "inputs": schedule}
    links = {"noise": ["90", 0], "guider": ["91", 0], "sampler": ["92", 0], "sigmas": ["93", 0]}
    inputs = {**links, "latent_image": sampler["latent_image"]}
    graph["94"] = {"class_type": "SamplerCustomAdvanced", "inputs": inputs}


def two_stages(graph: Graph, sampler: dict[str, Any]) -> None:
    """KSamplerAdvanced twice, with leftover noise in between."""
    shared = {name: value for name, value in sampler.items() if name not in ("seed", "denoise", "latent_image")}
    shared["noise_seed"] = sampler["seed"]
    first = {"add_noise": "enable", "start_at_step": 0, "end_at_step": 2, "return_with_leftover_noise": "enable"}
    second = {"add_noise": "disable", "start_at_step": 2, "end_at_step": 99, "return_with_leftover_noise": "disable"}
    start = {"latent_image": sampler["latent_image"]}
    graph["93"] = {"class_type": "KSamplerAdvanced", "inputs": {**shared, **first, **start}}
    graph["94"] = {"class_type": "KSamplerAdvanced", "inputs": {**shared, **second, "latent_image": ["93", 0]}}


@pytest.mark.parametrize("way", [custom_sampling, two_stages])
def test_other_sampling_nodes_make_the_same_video(server: Server, way: Callable[[Graph, dict[str, Any]], None]) -> None:
    expected = saved_frames(server, quickstart())
    graph = quickstart()
    way(graph, find_node(graph, "KSampler")["inputs"])
    find_node(graph, "VAEDecode")["inputs"]["samples"] = ["94", 0]
    assert (saved_frames(server, graph) - expected).abs().max() <= 1


def test_an_empty_latent_is_as_good_a_start(server: Server) -> None:
    graph = quickstart()
    graph["90"] = {"class_type": "EmptyLatentImage", "inputs": {"width": 128, "height": 128, "batch_size": 8}}
    find_node(graph, "KSampler")["inputs"].update(latent_image=["90", 0], denoise=1.0)
    outcome = server.run(graph)
    assert read_clip(server.output_file(outcome)).frames.shape == (8, 128, 128, 3)


def test_an_adapter_from_a_file_is_the_same_adapter(server: Server) -> None:
    folder = server.base / "models" / "firstframe"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(weights_file("i2v_adapter"), folder / "tiny.safetensors")
    graph = quickstart(seed=5)
    expected = server.output_file(server.run(graph))
    graph["90"] = {"class_type": "FirstFrameLoadAdapter", "inputs": {"adapter": "tiny.safetensors"}}
    find_node(graph, "FirstFrameApplyAdapter")["inputs"]["adapter"] = ["90", 0]
    outcome = server.run(graph)
    assert outcome.event == "execution_success", outcome.data
    assert torch.equal(read_clip(server.output_file(outcome)).frames, read_clip(expected).frames)


@pytest.mark.parametrize("format", ["webm", "gif"])
def test_other_formats(server: Server, format: str) -> None:
    graph = quickstart()
    find_node(graph, "FirstFrameSaveVideo")["inputs"]["format"] = format
    file = server.output_file(server.run(graph))
    assert file.suffix == f".{format}"
    assert read_clip(file).frames.shape == (16, 128, 128, 3)
