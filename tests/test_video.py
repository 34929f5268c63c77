from __future__ import annotations

import json

import pytest
import torch

from firstframe.errors import FirstFrameError
from firstframe.video import _ENCODERS, contact_sheet, read_clip, write_clip


def moving_disc(num_frames: int = 9, height: int = 48, width: int = 64) -> torch.Tensor:
    """(F, H, W, 3) floats: a soft bright disc moves right over a gradient."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    ground = torch.stack([x / width, y / height, torch.full_like(x, 0.4, dtype=torch.float32)], -1)
    frames = []
    for frame in range(num_frames):
        disc = torch.sigmoid(8 - ((x - 12 - 4 * frame) ** 2 + (y - height / 2) ** 2).sqrt())[..., None]
        frames.append(ground * (1 - disc) + disc * torch.tensor([0.9, 0.7, 0.2]))
    return torch.stack(frames)


@pytest.mark.parametrize(("suffix", "tolerance"), [(".mp4", 4), (".webm", 4), (".gif", 6)])
@pytest.mark.parametrize("size", [(48, 64), (33, 47)])
def test_round_trip(tmp_path, suffix, tolerance, size):
    frames = moving_disc(9, *size)
    clip = read_clip(write_clip(tmp_path / f"clip{suffix}", frames, fps=12.5))
    assert len(clip.frames) == 9 and clip.fps == pytest.approx(12.5)
    height, width = size if suffix != ".mp4" else (size[0] + size[0] % 2, size[1] + size[1] % 2)
    assert clip.frames.shape[1:] == (height, width, 3)
    error = clip.frames[:, : size[0], : size[1]].float() - frames * 255
    assert error.abs().mean() < tolerance


def test_odd_sides_of_mp4_repeat_the_edge(tmp_path):
    frames = moving_disc(3, 33, 47)
    read = read_clip(write_clip(tmp_path / "odd.mp4", frames, crf=1)).frames.float()
    assert (read[:, -1] - read[:, -2]).abs().mean() < 2 and (read[:, :, -1] - read[:, :, -2]).abs().mean() < 2


COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (128, 128, 128), (220, 40, 90)]


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif"])
@pytest.mark.parametrize("side", [64, 720])  # players guess BT.601 or BT.709 by size where the tags are missing
def test_flat_colours_stay(tmp_path, suffix, side):
    if side == 720 and suffix == ".gif":
        pytest.skip("a gif holds RGB")
    for colour in COLOURS[:: 1 if side == 64 else 3]:
        frames = torch.tensor(colour, dtype=torch.uint8).expand(2, side, side, 3)
        read = read_clip(write_clip(tmp_path / f"flat{suffix}", frames)).frames.int()
        assert (read - frames.int()).abs().max() <= 3, colour


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif"])
def test_metadata_comes_back(tmp_path, suffix):
    workflow = {"nodes": [{"text": 'a "quoted"; = # \\ line\nnext é 動'}], "pad": "x" * 200_000}
    metadata = {"workflow": json.dumps(workflow, ensure_ascii=False), "prompt": "two\nlines"}
    read = read_clip(write_clip(tmp_path / f"clip{suffix}", moving_disc(2), metadata=metadata))
    assert {name: read.metadata.get(name) for name in metadata} == metadata
    assert len(read.frames) == 2


def test_no_metadata(tmp_path):
    for suffix in (".mp4", ".webm", ".gif"):
        assert "workflow" not in read_clip(write_clip(tmp_path / f"clip{suffix}", moving_disc(2))).metadata


def test_bytes_and_floats_are_the_same_clip(tmp_path):
    frames = (moving_disc(2) * 255).round().to(torch.uint8)
    write_clip(tmp_path / "a.mp4", frames)
    write_clip(tmp_path / "b.mp4", frames.float() / 255)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_nothing_half_written(tmp_path, monkeypatch):
    target = tmp_path / "clip.mp4"
    target.write_bytes(b"an older clip")
    with monkeypatch.context() as patch, pytest.raises(FirstFrameError, match="no_such_codec"):
        patch.setitem(_ENCODERS, ".mp4", ["-c:v", "no_such_codec"])
        write_clip(target, moving_disc(2))
    assert target.read_bytes() == b"an older clip" and list(tmp_path.iterdir()) == [target]
    write_clip(target, moving_disc(2))
    assert len(read_clip(target).frames) == 2 and list(tmp_path.iterdir()) == [target]


def test_folders_are_made_and_suffix_case_is_free(tmp_path):
    assert write_clip(tmp_path / "new" / "deep" / "clip.MP4", moving_disc(2)).is_file()


def test_what_is_no_clip_is_refused(tmp_path):
    with pytest.raises(FirstFrameError, match="avi"):
        write_clip(tmp_path / "clip.avi", moving_disc(2))
    with pytest.raises(FirstFrameError, match="ffmpeg failed"):
        write_clip(tmp_path / "clip.mp4", moving_disc(2), fps=0)
    for shape in [(48, 64, 3), (0, 48, 64, 3), (2, 48, 64, 4)]:
        with pytest.raises(FirstFrameError, match=rf"got shape \({shape[0]}, "):
            write_clip(tmp_path / "clip.mp4", torch.zeros(shape))
    (tmp_path / "text.mp4").write_text("not a video")
    for name in ("text.mp4", "missing.mp4"):
        with pytest.raises(FirstFrameError, match=name):
            read_clip(tmp_path / name)


def test_contact_sheet():
    frames = moving_disc(9)
    sheet = contact_sheet(frames, columns=4, gap=2)
    assert sheet.size == (4 * 66 - 2, 3 * 50 - 2)
    assert sheet.getpixel((66 + 20, 50 + 24)) == tuple((frames[5, 24, 20] * 255).round().int().tolist())
    assert sheet.getpixel((200, 140)) == (255, 255, 255)  # the tenth place is empty
    assert contact_sheet(frames[:2]).size == (130, 48)
