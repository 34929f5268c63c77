"""A bad input is answered with a reason, and the next item in the queue runs as if nothing had happened."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from comfyui_firstframe_pack.firstframe.clips.video import read_clip
from comfyui_firstframe_pack.firstframe.tiny.files import weights_file
from harness import Graph, Server, find_node, quickstart, rerun
from safetensors.torch import save_file

Break = Callable[[Graph, Path], None]


def not_divisible(graph: Graph, models: Path) -> None:
    find_node(graph, "FirstFrameEncodeReference")["inputs"]["width"] = 100


def batch_of_images(graph: Graph, models: Path) -> None:
    graph["90"] = {"class_type": "RepeatImageBatch", "inputs": {"image": ["2", 0], "amount": 2}}
    find_node(graph, "FirstFrameEncodeReference")["inputs"]["image"] = ["90", 0]


def empty_latent(graph: Graph, **size: int) -> None:
    inputs = {"width": 128, "height": 128, "batch_size": 16, **size}
    graph["90"] = {"class_type": "EmptyLatentImage", "inputs": inputs}
    find_node(graph, "KSampler")["inputs"].update(latent_image=["90", 0], denoise=1.0)


def one_frame(graph: Graph, models: Path) -> None:
    empty_latent(graph, batch_size=1)


def too_many_frames(graph: Graph, models: Path) -> None:
    find_node(graph, "FirstFrameSimilarityPrior")["inputs"]["num_frames"] = 17


def another_size(graph: Graph, models: Path) -> None:
    empty_latent(graph, width=64)


def motion_file(graph: Graph, file: Path) -> None:
    graph["90"] = {"class_type": "FirstFrameLoadMotionModule", "inputs": {"motion_module": file.name}}
    inputs = {"model": ["1", 0], "motion_module": ["90", 0], "scale": 1.0, "schedule": "auto"}
    graph["91"] = {"class_type": "FirstFrameApplyMotionModule", "inputs": inputs}
    find_node(graph, "FirstFrameApplyAdapter")["inputs"]["model"] = ["91", 0]


def truncated_file(graph: Graph, models: Path) -> None:
    file = models / "animatediff_models" / "truncated.safetensors"
    save_file({"down_blocks.0.motion_modules.0.proj_in.weight": torch.zeros(64, 64)}, file)
    file.write_bytes(file.read_bytes()[:200])
    motion_file(graph, file)


def unknown_keys(graph: Graph, models: Path) -> None:
    file = models / "animatediff_models" / "stranger.safetensors"
    save_file({"a.stranger.weight": torch.zeros(2)}, file)
    motion_file(graph, file)


def wrong_kind_of_file(graph: Graph, models: Path) -> None:
    file = models / "animatediff_models" / "notes.ckpt"
    file.write_text("not a model", "utf-8")
    motion_file(graph, file)


def motion_twice(graph: Graph, models: Path) -> None:
    file = models / "animatediff_models" / "tiny.safetensors"
    shutil.copy(weights_file("motion_module"), file)
    motion_file(graph, file)


BROKEN: list[tuple[Break, str]] = [
    (not_divisible, "multiples of 8"),
    (batch_of_images, "one image is wanted"),
    (one_frame, "batch_size"),
    (too_many_frames, "positions for 16"),
    (another_size, "same width and height"),
    (truncated_file, "truncated.safetensors"),
    (unknown_keys, "stranger.safetensors"),
    (wrong_kind_of_file, "notes.ckpt"),
    (motion_twice, "already has a motion module"),
]


@pytest.mark.parametrize(("break_it", "reason"), BROKEN, ids=[break_it.__name__ for break_it, _ in BROKEN])
def test_the_reason_is_given(server: Server, break_it: Break, reason: str) -> None:
    models = server.base / "models"
    (models / "animatediff_models").mkdir(parents=True, exist_ok=True)
    graph = quickstart()
    break_it(graph, models)
    outcome = server.run(graph)
    assert outcome.event == "execution_error", outcome.data
    assert reason in outcome.data["exception_message"]


def test_the_next_item_runs(server: Server) -> None:
    good = server.run(quickstart(seed=3))
    bad = quickstart(seed=4)
    too_many_frames(bad, server.base)
    assert server.run(bad).event == "execution_error"
    again = server.run(rerun(quickstart(seed=3)))
    assert again.event == good.event == "execution_success"
    assert server.output_file(good) != server.output_file(again)
    frames, frames_again = (read_clip(server.output_file(outcome)).frames for outcome in (good, again))
    assert torch.equal(frames, frames_again)


def test_a_missing_file_comes_with_the_way_to_get_it(server: Server) -> None:
    graph = quickstart()
    graph["90"] = {"class_type": "FirstFrameLoadAdapter", "inputs": {"adapter": "i2v_module.pth"}}
    find_node(graph, "FirstFrameApplyAdapter")["inputs"]["adapter"] = ["90", 0]
    outcome = server.run(graph)
    assert outcome.event == "refused"
    assert "firstframe weights fetch i2v-adapter" in str(outcome.data)
