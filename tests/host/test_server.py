"""The quickstart through the real server: queue, wait, look at the file, cancel, run again."""

from __future__ import annotations

import copy
import json
from typing import Any

import torch
from comfyui_firstframe_pack.firstframe.reference import prepare_picture
from comfyui_firstframe_pack.firstframe.video import read_clip
from comfyui_firstframe_pack.nodes.load import EXAMPLE_PICTURE

from harness import ROOT, Server

QUICKSTART: dict[str, Any] = json.loads((ROOT / "workflows/api/quickstart.json").read_text("utf-8"))
STEPS = 4


def quickstart(**inputs: Any) -> dict[str, Any]:
    """The quickstart with a few steps and other inputs of its sampler."""
    graph = copy.deepcopy(QUICKSTART)
    sampler = next(node for node in graph.values() if node["class_type"] == "KSampler")
    sampler["inputs"].update({"steps": STEPS, **inputs})
    return graph


def test_quickstart_makes_a_video_that_starts_with_the_picture(server: Server) -> None:
    outcome = server.run(quickstart())
    assert outcome.event == "execution_success", outcome.data
    clip = read_clip(server.output_file(outcome))
    assert clip.frames.shape == (16, 128, 128, 3)
    assert clip.fps == 8
    picture = prepare_picture(EXAMPLE_PICTURE, 128, 128)[0].movedim(0, -1)
    error = (clip.frames[0] / 255 - picture).abs().mean()
    assert error < 0.05
    assert json.loads(clip.metadata["prompt"]) == quickstart()
    assert "workflow" in clip.metadata


def test_a_cancelled_run_leaves_the_next_one_as_it_was(server: Server) -> None:
    def cancel(event: str, data: dict[str, Any]) -> None:
        if event == "progress" and data["value"] == 2:
            server.interrupt()

    first = server.run(quickstart(seed=1))
    cancelled = server.run(quickstart(seed=2), cancel)
    again = server.run(quickstart(seed=1))
    assert cancelled.event == "execution_interrupted"
    assert server.output_file(first) != server.output_file(again)
    frames, frames_again = (read_clip(server.output_file(outcome)).frames for outcome in (first, again))
    assert torch.equal(frames, frames_again)
