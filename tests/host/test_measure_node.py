"""FirstFrameMeasure in the real graph: its plot is shown, its numbers are those of the core."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from comfyui_firstframe_pack.firstframe.clips.metrics import flow_score, ssim
from comfyui_firstframe_pack.firstframe.clips.reference import prepare_image
from comfyui_firstframe_pack.firstframe.errors import FirstFrameError
from comfyui_firstframe_pack.nodes.measure import Measure
from harness import Graph, Server, find_node, quickstart
from PIL import Image
from torch import Tensor
from torch.nn import functional


def measured(*inputs: Any, **named: Any) -> tuple[Tensor, dict[str, Any], dict[str, Any]]:
    output = Measure.execute(*inputs, **named)
    plot, numbers = output.result
    return plot, json.loads(numbers), output.ui


@pytest.fixture(scope="module")
def clips() -> list[Tensor]:
    """Two clips (5, 64, 96, 3): smooth grounds that slide to the left by one and by three pixels per frame."""
    coarse = torch.rand(2, 3, 16, 32, generator=torch.Generator().manual_seed(0))
    grounds = functional.interpolate(coarse, (64, 128), mode="bicubic").clamp(0, 1).movedim(1, -1)
    return [
        torch.stack([ground[:, speed * f : speed * f + 96] for f in range(5)])
        for ground, speed in zip(grounds, (1, 3), strict=True)
    ]


def with_measure(graph: Graph) -> Graph:
    """The quickstart, its video measured against the prepared image, and once more against itself from the end."""
    images = find_node(graph, "FirstFrameSaveVideo")["inputs"]["images"]
    (encode,) = [id for id, node in graph.items() if node["class_type"] == "FirstFrameEncodeReference"]
    graph["90"] = {"class_type": "ImageFromBatch", "inputs": {"image": images, "batch_index": 0, "length": 8}}
    inputs = {"images": images, "picture": [encode, 1], "name": "all", "other": ["90", 0], "other_name": "half"}
    graph["91"] = {"class_type": "FirstFrameMeasure", "inputs": inputs}
    return graph


def test_in_the_graph(server: Server) -> None:
    outcome = server.run(with_measure(quickstart()))
    assert outcome.event == "execution_success", outcome.data
    shown = outcome.outputs["91"]
    (image,) = shown["images"]
    plot = np.asarray(Image.open(server.base / image["type"] / image["subfolder"] / image["filename"]))
    assert plot.shape[0] > 500 and plot.shape[1] > 1000 and len(np.unique(plot.reshape(-1, 3), axis=0)) > 50
    (text,) = shown["text"]
    lines = dict(line.split(": ") for line in text.splitlines())
    assert next(iter(lines)) == "ssim to the image" and lines["flow (px/frame)"].startswith("all ")
    # half of the clip has gone half of the way: it is nearer to the image
    of_all, of_half = (float(part.split()[-1]) for part in lines["ssim to the image"].split(", "))
    assert 0.3 < of_all < of_half < 1


def test_numbers_are_those_of_the_core(clips: list[Tensor]) -> None:
    clip, other = clips
    plot, numbers, ui = measured(clip, clip[:1], "one", other[:3], "two")
    assert plot.ndim == 4 and plot.shape[0] == 1 and plot.dtype == torch.float32
    assert plot.min() >= 0 and plot.max() == 1
    assert numbers["one"]["frames"]["picture_ssim"] == pytest.approx([ssim(f[None], clip[:1]) for f in clip])
    assert numbers["two"]["mean"]["flow_score"] == pytest.approx(flow_score(other[:3]), rel=1e-5)
    assert [numbers[name]["mean"]["flow_score"] for name in numbers] == pytest.approx([1, 3], abs=0.3)
    assert ui["images"] and "two" in ui["text"][0]


def test_one_video_alone_and_with_alpha(clips: list[Tensor]) -> None:
    clip = clips[0]
    opaque = torch.cat([clip, torch.ones_like(clip[..., :1])], dim=-1)
    _, numbers, _ = measured(opaque, clip[:1], "other")  # the name of a second one that is not there
    assert list(numbers) == ["other"] and numbers["other"]["frames"]["picture_ssim"][0] == pytest.approx(1)


def test_an_image_of_another_size_is_prepared_as_the_reference_is(clips: list[Tensor]) -> None:
    large = torch.rand(1, 200, 300, 3, generator=torch.Generator().manual_seed(0))
    still = prepare_image(large, 64, 48).movedim(1, -1).repeat(2, 1, 1, 1)
    _, numbers, _ = measured(still, large, "video", clips[0], "of another size")
    assert numbers["video"]["mean"]["picture_ssim"] == pytest.approx(1)
    assert len(numbers["of another size"]["frames"]["picture_ssim"]) == 5


def test_bad_input_is_refused(clips: list[Tensor]) -> None:
    with pytest.raises(FirstFrameError, match="two frames, got 1"):
        measured(clips[0][:1], clips[0][:1], "video")
    with pytest.raises(FirstFrameError, match="both videos are called 'video'"):
        measured(clips[0], clips[0][:1], "video", clips[1], "video")


def test_what_is_missing_is_named_with_its_command(clips: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)  # so Python itself refuses to import it
    with pytest.raises(FirstFrameError) as refused:
        measured(clips[0], clips[0][:1], "video")
    command = str(refused.value).split("Install with: ")[1].split()
    assert command == [sys.executable, "-m", "pip", "install", "opencv-python-headless"]
    assert Path(command[0]).exists() and subprocess.run([*command[:3], "--version"], check=True, capture_output=True)


def test_the_pack_is_there_without_them() -> None:
    """The other nodes need neither: nothing of the pack imports them before this node runs."""
    code = (
        "import sys; sys.modules.update(cv2=None, matplotlib=None)\n"
        "import conftest, asyncio\n"
        "extension = asyncio.run(sys.modules[conftest.PACK].comfy_entrypoint())\n"
        "print([node.GET_SCHEMA().node_id for node in asyncio.run(extension.get_node_list())])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    assert "FirstFrameMeasure" in found.stdout and "FirstFrameSaveVideo" in found.stdout, found.stderr
