"""Clips that overlap and videos on sockets, through the real server."""

from __future__ import annotations

import pytest
import torch
from comfyui_firstframe_pack.firstframe.clips.video import read_clip
from harness import Graph, Server, find_node, workflow

pytestmark = pytest.mark.feature("Longer video: latents handed over, clips that overlap")


def overlapping(overlap: int) -> Graph:
    """The workflow with two clips, of which the second begins with the last latents of the first."""
    graph = workflow("long_clip")
    (extend,) = [id for id, node in graph.items() if node["class_type"] == "FirstFrameExtendClip"]
    decode, _ = graph[extend]["inputs"]["images"]
    graph[extend]["inputs"] |= {"latent": graph[decode]["inputs"]["samples"], "overlap": overlap}
    (encoded,) = [
        id
        for id, node in graph.items()
        if node["class_type"] == "FirstFrameEncodeReference" and node["inputs"]["image"] == [extend, 0]
    ]
    del graph[encoded]
    for node in graph.values():
        if node["inputs"].get("reference") == [encoded, 0]:
            node["inputs"]["reference"] = [extend, 2]
    find_node(graph, "FirstFrameJoinClips")["inputs"]["overlap"] = overlap
    return graph


def test_the_second_clip_goes_on_from_the_last_frames_of_the_first(server: Server) -> None:
    usual = read_clip(server.output_file(server.run(workflow("long_clip")))).frames.float() / 255
    outcome = server.run(overlapping(4))
    assert outcome.event == "execution_success", outcome.data
    frames = read_clip(server.output_file(outcome)).frames.float() / 255
    assert len(frames) == 16 + 16 - 4
    assert (frames[0] - usual[0]).abs().mean() < 0.01  # compressed twice
    assert (frames[:12] - usual[:12]).abs().mean() < 0.04  # the same first clip, in the colours of its first frame
    steps = (frames[1:] - frames[:-1]).abs().mean((1, 2, 3))
    assert steps[11:17].max() < 4 * steps.median()


def test_latents_of_another_length_are_refused(server: Server) -> None:
    graph = overlapping(4)
    extend = find_node(graph, "FirstFrameExtendClip")
    graph["90"] = {"class_type": "ImageFromBatch", "inputs": {"image": extend["inputs"]["images"], "batch_index": 0}}
    graph["90"]["inputs"]["length"] = 8
    extend["inputs"]["images"] = ["90", 0]
    outcome = server.run(graph)
    assert "16 latents and 8 frames" in outcome.data["exception_message"]


def test_a_video_is_taken_for_its_frames_and_comes_out_again(server: Server) -> None:
    graph: Graph = {
        "1": {"class_type": "FirstFrameExamplePicture", "inputs": {}},
        "2": {"class_type": "RepeatImageBatch", "inputs": {"image": ["1", 0], "amount": 6}},
        "3": {"class_type": "CreateVideo", "inputs": {"images": ["2", 0], "fps": 12.0}},
        "4": {"class_type": "FirstFrameSaveVideo", "inputs": saved(["3", 0], "in")},
        "5": {"class_type": "FirstFrameSaveVideo", "inputs": saved(["4", 1], "out")},
        "6": {"class_type": "FirstFrameExtendClip", "inputs": {"images": ["3", 0], "among_last": 2}},
        "7": {"class_type": "PreviewImage", "inputs": {"images": ["6", 1]}},
    }
    outcome = server.run(graph)
    assert outcome.event == "execution_success", outcome.data
    for id in ("4", "5"):
        (file,) = outcome.outputs[id]["images"]
        clip = read_clip(server.base / "output" / file["subfolder"] / file["filename"])
        assert clip.frames.shape == (6, 128, 128, 3) and clip.fps == pytest.approx(12)
        assert torch.isfinite(clip.frames.float()).all()


def saved(source: list[object], prefix: str) -> dict[str, object]:
    return {"images": source, "fps": 8.0, "filename_prefix": prefix, "format": "mp4", "crf": -1}
