"""Clips at the edge of what files hold, clips of other programs, and files that are no clips."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from firstframe.clips.video import FORMATS, Sound, read_clip, write_clip
from firstframe.errors import FirstFrameError


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("format", FORMATS)
def test_sides_of_one_pixel(tmp_path: Path, format: str) -> None:
    for height, width in [(1, 1), (1, 16), (16, 1)]:
        path = tmp_path / f"{height}x{width}{FORMATS[format].suffix}"
        frames = read_clip(write_clip(path, noise(3, height, width), format=format)).frames
        even = FORMATS[format].even
        assert frames.shape == (3, height + (even and height % 2), width + (even and width % 2), 3)


@pytest.mark.parametrize("format", ["mp4", "webm", "gif", "webp", "png"])
def test_metadata_that_files_cannot_hold(tmp_path: Path, format: str, caplog: pytest.LogCaptureFixture) -> None:
    odd = {"a": "1\0", "b": "\ud800", "c": "a\r\nb", "d": "end\\", "e": "[STREAM]\nx=y", "動": "1", "z\n": "2", "f": ""}
    read = read_clip(write_clip(tmp_path / f"clip{FORMATS[format].suffix}", noise(2, 8, 8), metadata=odd)).metadata
    lines = "a\nb" if format in ("mp4", "webm") else "a\r\nb"
    assert {name: read.get(name, "").rstrip(" ") for name in odd} == {
        **{"a": "1?", "b": "?", "c": lines, "d": "end\\", "e": odd["e"], "f": ""},
        **{"動": "", "z\n": ""},
    }
    assert "is left out" in caplog.text and repr("z\n") in caplog.text


COMMENTS = [(b"Made with GIMP", "Made with GIMP"), (b"\xff[1, 2]", "\ufffd[1, 2]"), (b"[" * 20000, "[" * 20000)]


@pytest.mark.parametrize(("comment", "read"), COMMENTS, ids=["text", "no UTF-8", "deep"])
def test_a_gif_of_another_program(tmp_path: Path, comment: bytes, read: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "clip.gif", save_all=True, append_images=frames[1:], comment=comment, duration=100)
    clip = read_clip(tmp_path / "clip.gif")
    assert len(clip.frames) == 2 and clip.fps == pytest.approx(10) and clip.metadata == {"comment": read}


def test_json_that_is_not_ours_stays_text(tmp_path: Path) -> None:
    for value in ([["a", "b"]], {"a": 1}, 5):
        frame = Image.new("RGB", (8, 8))
        frame.save(
            tmp_path / "clip.gif",
            save_all=True,
            append_images=[Image.new("RGB", (8, 8), "red")],
            comment=json.dumps(value).encode(),
            duration=100,
        )
        assert read_clip(tmp_path / "clip.gif").metadata == {"comment": json.dumps(value)}


def test_a_webp_of_another_program(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0110], exif[0x0132], exif[0x010F] = "prompt:\u00e9\u00ff", "2026:01:01 00:00:00", "Camera"
    frame, other = Image.new("RGB", (8, 8)), Image.new("RGB", (8, 8), "red")
    options = {"save_all": True, "append_images": [other], "duration": 50}
    frame.save(tmp_path / "clip.webp", exif=exif, **options)
    assert list(read_clip(tmp_path / "clip.webp").metadata) == ["prompt"]
    frame.save(tmp_path / "clip.webp", exif=b"Exif\0\0no TIFF header", **options)
    clip = read_clip(tmp_path / "clip.webp")
    assert clip.metadata == {} and len(clip.frames) == 2 and clip.fps == pytest.approx(20)


def test_folders_that_are_no_clips(tmp_path: Path) -> None:
    for fps in ("soon", "nan", "0"):
        folder = write_clip(tmp_path / fps, noise(2, 8, 8))
        text = PngInfo()
        text.add_text("fps", fps)
        Image.new("RGB", (8, 8)).save(folder / "frame_00001.png", pnginfo=text)
        with pytest.raises(FirstFrameError, match=fps):
            read_clip(folder)
    folder = write_clip(tmp_path / "sizes", noise(2, 8, 8))
    Image.new("RGB", (8, 16)).save(folder / "frame_00002.png")
    with pytest.raises(FirstFrameError, match="frame 1 is 8 x 16, those before are 8 x 8"):
        read_clip(folder)


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif", ".webp"])
def test_no_file_empty_file_pipe_and_half_a_file(tmp_path: Path, suffix: str) -> None:
    whole = write_clip(tmp_path / f"whole{suffix}", noise(6, 16, 16)).read_bytes()
    for name, content in [
        ("empty", b""),
        ("start", whole[: len(whole) // 20]),
        ("text", b"no clip"),
        ("zeros", bytes(999)),
    ]:
        (tmp_path / f"{name}{suffix}").write_bytes(content)
    os.mkfifo(tmp_path / f"pipe{suffix}")
    for name in ("missing", "empty", "start", "text", "zeros", "pipe"):
        with pytest.raises(FirstFrameError, match=rf"{name}\{suffix}"):
            read_clip(tmp_path / f"{name}{suffix}")


@pytest.mark.parametrize("suffix", [".mp4", ".webp", ""])
def test_clips_that_are_too_large_are_not_read(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / f"clip{suffix}", noise(4, 16, 16))
    monkeypatch.setattr("firstframe.clips.video.frames.MAX_CLIP_PIXELS", 3 * 16 * 16)
    with pytest.raises(FirstFrameError, match="in 4 frames of 16 x 16: make it shorter or smaller"):
        read_clip(path)
    monkeypatch.setattr("firstframe.clips.images.MAX_PIXELS", 255)
    with pytest.raises(FirstFrameError, match=r"'.*clip.*' has 16 x 16 pixels"):
        read_clip(path)


def test_frames_and_sounds_that_are_no_numbers(tmp_path: Path) -> None:
    frames = noise(3, 8, 8)
    frames[1, 2, 3, 0] = torch.nan
    with pytest.raises(FirstFrameError, match=r"frame 1 .*NaN"):
        write_clip(tmp_path / "clip.mp4", frames)
    with pytest.raises(FirstFrameError, match=r"torch\.int64"):
        write_clip(tmp_path / "clip.mp4", torch.ones(2, 8, 8, 3, dtype=torch.int64))
    with pytest.raises(FirstFrameError, match="NaN"):
        Sound(torch.full((1, 100), torch.nan), 8000)
    assert not list(tmp_path.iterdir())
