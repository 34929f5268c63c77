"""Save Video through the real server: every format with its preview, its workflow and its sound."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import pytest
import torch
from comfyui_firstframe_pack.firstframe.clips.video import FORMATS, read_clip
from harness import Graph, Outcome, Server
from PIL import Image

NUM_FRAMES = 6
MOVING_IN_THE_NODE = ["mp4", "webm", "mp4 10-bit", "mp4 near-lossless", "webm av1", "webp"]


def graph(format: str, prefix: str = "clips/%width%x%height%", **inputs: Any) -> Graph:
    """An image and its negative, in turn, to a file; a second of silence beside it."""
    images = {
        "1": {"class_type": "FirstFrameExamplePicture", "inputs": {}},
        "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
        "3": {"class_type": "ImageBatch", "inputs": {"image1": ["1", 0], "image2": ["2", 0]}},
        "4": {"class_type": "RepeatImageBatch", "inputs": {"image": ["3", 0], "amount": NUM_FRAMES // 2}},
        "5": {"class_type": "EmptyAudio", "inputs": {"duration": 9.0, "sample_rate": 44100, "channels": 2}},
    }
    save = {"images": ["4", 0], "fps": 4.0, "filename_prefix": prefix, "format": format, **inputs}
    return {**images, "6": {"class_type": "FirstFrameSaveVideo", "inputs": save}}


def saved(server: Server, outcome: Outcome) -> Path:
    """The file, or the folder of png."""
    assert outcome.event == "execution_success", outcome.data
    files = server.output_files(outcome)
    return files[0] if len(files) == 1 else files[0].parent


@pytest.mark.parametrize("format", FORMATS)
def test_every_format(server: Server, format: str) -> None:
    queued = graph(format)
    outcome = server.run(queued)
    path = saved(server, outcome)
    assert re.fullmatch(rf"128x128_\d{{5}}_{re.escape(FORMATS[format].suffix)}", path.name)
    clip = read_clip(path)
    assert clip.frames.shape == (NUM_FRAMES, 128, 128, 3) and clip.fps == pytest.approx(4)
    assert json.loads(clip.metadata["prompt"]) == queued and json.loads(clip.metadata["workflow"]) == {}
    shown = outcome.outputs["6"]
    assert bool(shown.get("animated", [False])[0]) == (format in MOVING_IN_THE_NODE)
    assert all(file["type"] == "output" for file in shown["images"])
    assert [file.name for file in server.output_files(outcome)] == (
        [path.name] if path.is_file() else [f"frame_{index:05}.png" for index in range(1, NUM_FRAMES + 1)]
    )


@pytest.mark.parametrize("format", ["mp4", "mp4 10-bit", "mp4 near-lossless"])
def test_an_mp4_says_what_the_host_s_own_says(server: Server, format: str) -> None:
    """Read as the host reads it; the containers' boxes are the same too, which is what the browser looks at."""
    both = graph(format)
    create = {"images": ["4", 0], "fps": 4.0}
    both["7"] = {"class_type": "CreateVideo", "inputs": create}
    own = {"video": ["7", 0], "filename_prefix": f"clips/own for {format}", "format": "mp4", "codec": "h264"}
    both["8"] = {"class_type": "SaveVideo", "inputs": own}
    outcome = server.run(both)
    assert outcome.event == "execution_success", outcome.data
    texts, boxes = [], []
    ours, theirs = sorted(server.output_files(outcome))
    for path in (ours, theirs):
        with av.open(str(path)) as container:
            texts.append({name: json.loads(container.metadata[name]) for name in ("prompt", "workflow")})
        data = path.read_bytes()
        boxes.append([box in data for box in (b"moov", b"udta", b"meta", b"keys", b"mdtaprompt", b"ilst")])
    assert texts[0] == texts[1] == {"prompt": both, "workflow": {}}
    assert boxes[0] == boxes[1] == [True] * 6
    assert ours.read_bytes().find(b"moov") < ours.read_bytes().find(b"mdat")  # the browser reads the beginning


def test_a_webp_says_what_the_host_s_own_says(server: Server) -> None:
    both = graph("webp")
    own = {"images": ["4", 0], "filename_prefix": "clips/own", "fps": 4.0, "lossless": True, "quality": 80}
    both["7"] = {"class_type": "SaveAnimatedWEBP", "inputs": {**own, "method": "default"}}
    outcome = server.run(both)
    assert outcome.event == "execution_success", outcome.data
    ours, theirs = (dict(Image.open(path).getexif()) for path in sorted(server.output_files(outcome)))
    assert ours == theirs and len(ours) == 2
    assert outcome.outputs["6"].keys() == outcome.outputs["7"].keys()


def test_a_frame_of_a_folder_says_what_save_image_says(server: Server) -> None:
    both = graph("png")
    both["7"] = {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "clips/own"}}
    outcome = server.run(both)
    own, frame = (
        Image.open(next(file for file in server.output_files(outcome) if file.name.startswith(name))).text
        for name in ("own", "frame_00001")
    )
    assert own == {name: text for name, text in frame.items() if name != "fps"} and len(own) == 2


def stream_of_sound(path: Path) -> str:
    program = imageio_ffmpeg.get_ffmpeg_exe()
    printed = subprocess.run([program, "-i", str(path)], capture_output=True, text=True, check=False).stderr
    return "".join(re.findall(r"Stream #.*?: (Audio: .*)", printed))


@pytest.mark.parametrize("format", ["mp4", "webm av1"])
def test_audio(server: Server, format: str) -> None:
    path = saved(server, server.run(graph(format, audio=["5", 0])))
    assert re.match("Audio: (aac|opus).*stereo", stream_of_sound(path))
    with av.open(str(path)) as container:
        assert container.duration / av.time_base == pytest.approx(NUM_FRAMES / 4, abs=0.05)
    assert "workflow" in read_clip(path).metadata


def test_a_format_without_sound_says_so(server: Server) -> None:
    log = server.base / "server.log"
    before = len(log.read_text("utf-8"))
    saved(server, server.run(graph("gif", audio=["5", 0])))
    assert "gif holds no sound" in log.read_text("utf-8")[before:]


def test_crf(server: Server) -> None:
    sizes = [saved(server, server.run(graph("mp4", crf=crf))).stat().st_size for crf in (1, -1, 45)]
    assert sizes[0] > sizes[1] > sizes[2]
    same = saved(server, server.run(graph("mp4", crf=18, prefix="clips/same")))
    assert torch.equal(read_clip(same).frames, read_clip(saved(server, server.run(graph("mp4")))).frames)


@pytest.mark.parametrize("format", ["mp4", "png"])
def test_nothing_is_overwritten(server: Server, format: str) -> None:
    first = saved(server, server.run(graph(format, prefix=f"kept/{format}")))
    file = first / "frame_00001.png" if first.is_dir() else first
    content = file.read_bytes()
    second = saved(server, server.run(graph(format, prefix=f"kept/{format}", fps=5.0)))
    assert (first.name, second.name) == tuple(f"{format}_0000{n}_{FORMATS[format].suffix}" for n in (1, 2))
    assert file.read_bytes() == content


def test_a_cancelled_run_leaves_no_file(server: Server) -> None:
    def cancel(event: str, data: dict[str, Any]) -> None:
        if event == "progress" and data["node"] == "6" and not seen:
            seen.append(data["value"])
            server.interrupt()

    seen: list[int] = []
    queued = graph("webm av1", prefix="cancelled/clip")
    queued["4"]["inputs"]["amount"] = 500
    outcome = server.run(queued, cancel)
    assert outcome.event == "execution_interrupted", seen
    assert not list((server.base / "output" / "cancelled").iterdir())
