from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image

from firstframe.clips.video import FORMATS, Sound, check_format, contact_sheet, read_clip, write_clip
from firstframe.errors import FirstFrameError

SUFFIXES = list(dict.fromkeys(format.suffix for format in FORMATS.values()))


def moving_disc(num_frames: int = 9, height: int = 48, width: int = 64) -> torch.Tensor:
    """(F, H, W, 3) floats: a soft bright disc moves right over a gradient."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    ground = torch.stack([x / width, y / height, torch.full_like(x, 0.4, dtype=torch.float32)], -1)
    frames = []
    for frame in range(num_frames):
        disc = torch.sigmoid(8 - ((x - 12 - 4 * frame) ** 2 + (y - height / 2) ** 2).sqrt())[..., None]
        frames.append(ground * (1 - disc) + disc * torch.tensor([0.9, 0.7, 0.2]))
    return torch.stack(frames)


def tone(seconds: float, sample_rate: int = 44100, channels: int = 2) -> Sound:
    """440 Hz at half of full scale."""
    wave = 0.5 * torch.sin(2 * torch.pi * 440 * torch.arange(round(seconds * sample_rate)) / sample_rate)
    return Sound(wave.expand(channels, -1), sample_rate)


def ffmpeg(*arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), *map(str, arguments)], capture_output=True, check=False)


def streams(path: Path) -> list[str]:
    """What ffmpeg says of each stream: codec, profile, kind of pixels."""
    return re.findall(r"Stream #.*?: ((?:Video|Audio): .*)", ffmpeg("-i", path).stderr.decode())


def psnr(read: torch.Tensor, frames: torch.Tensor) -> float:
    return float(-10 * torch.log10(((read.float() / 255 - frames) ** 2).mean()))


LIKENESS = {
    "mp4": 34,
    "webm": 34,
    "gif": 31,
    "mp4 10-bit": 34,
    "mp4 near-lossless": 45,
    "webm av1": 34,
    "webp": 33,
    "png": 55,
}


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("size", [(48, 64), (33, 47)])
def test_round_trip(tmp_path, format, size):
    frames = moving_disc(9, *size)
    clip = read_clip(write_clip(tmp_path / f"clip{FORMATS[format].suffix}", frames, fps=12.5, format=format))
    assert len(clip.frames) == 9 and clip.fps == pytest.approx(12.5)
    even = FORMATS[format].even
    assert clip.frames.shape[1:] == (size[0] + (even and size[0] % 2), size[1] + (even and size[1] % 2), 3)
    assert psnr(clip.frames[:, : size[0], : size[1]], frames) > LIKENESS[format]


STREAMS = {
    "mp4": r"h264 \(High\).*yuv420p\(tv, bt709",
    "webm": r"vp9 .*yuv420p\(tv, bt709",
    "mp4 10-bit": r"h264 \(High 10\).*yuv420p10le\(tv, bt709",
    "mp4 near-lossless": r"h264 \(High 4:4:4 Predictive\).*yuv444p10le\(tv, bt709",
    "webm av1": r"av1 .*yuv420p10le\(tv, bt709",
}


@pytest.mark.parametrize("format", STREAMS)
def test_what_is_in_the_file(tmp_path, format):
    (stream,) = streams(write_clip(tmp_path / f"clip{FORMATS[format].suffix}", moving_disc(2), format=format))
    assert re.search(STREAMS[format], stream)


@pytest.mark.parametrize("format", ["mp4 10-bit", "mp4 near-lossless", "webm av1"])
def test_ten_bits_keep_more_levels_than_eight(tmp_path, format):
    grey = torch.linspace(0.4, 0.45, 256).expand(64, 256)[None, ..., None].expand(2, -1, -1, 3)
    levels = {}
    for name in (format, "mp4"):
        path = write_clip(tmp_path / f"{name}{FORMATS[name].suffix}", grey, format=name, crf=1)
        luma = ffmpeg("-i", path, "-f", "rawvideo", "-vf", "extractplanes=y", "-pix_fmt", "gray16le", "-").stdout
        levels[name] = len(np.unique(np.frombuffer(luma, "<u2").reshape(2, 64, 256)[0, 32]))
    assert levels["mp4"] <= 13 and levels[format] > 2 * levels["mp4"]


@pytest.mark.parametrize("format", [name for name, format in FORMATS.items() if format.even])
def test_odd_sides_repeat_the_edge(tmp_path, format):
    frames = moving_disc(3, 33, 47)
    read = read_clip(write_clip(tmp_path / f"odd{FORMATS[format].suffix}", frames, crf=1, format=format)).frames.float()
    assert psnr(read[:, :33, :47], frames) > 34
    assert (read[:, -1] - read[:, -2]).abs().mean() < 2 and (read[:, :, -1] - read[:, :, -2]).abs().mean() < 2


COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (128, 128, 128), (220, 40, 90)]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("side", [64, 720])  # players guess BT.601 or BT.709 by size where the tags are missing
def test_flat_colours_stay(tmp_path, format, side):
    if side == 720 and not FORMATS[format].audio_encoder:
        pytest.skip("holds RGB, or says which YUV by itself")
    for number, colour in enumerate(COLOURS[:: 1 if side == 64 else 3]):
        frames = torch.tensor(colour, dtype=torch.uint8).expand(2, side, side, 3)
        path = tmp_path / f"flat{number}{FORMATS[format].suffix}"
        read = read_clip(write_clip(path, frames, format=format)).frames.int()
        assert (read - frames.int()).abs().max() <= 3, colour


def test_crf_is_quality(tmp_path):
    frames = moving_disc(6)
    for suffix, best in [(".mp4", 1), (".webm", 1)]:
        fine, coarse = (write_clip(tmp_path / f"{crf}{suffix}", frames, crf=crf) for crf in (best, 45))
        assert fine.stat().st_size > 2 * coarse.stat().st_size
        assert psnr(read_clip(fine).frames, frames) > psnr(read_clip(coarse).frames, frames) + 3


@pytest.mark.parametrize("fps", [8, 23.976, 30, 60])
@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".webp", ""])
def test_the_pace(tmp_path, suffix, fps):
    assert read_clip(write_clip(tmp_path / f"clip{suffix}", moving_disc(12), fps)).fps == pytest.approx(fps, rel=2e-3)


def test_a_webp_of_equal_frames_is_a_still_image(tmp_path):
    clip = read_clip(write_clip(tmp_path / "clip.webp", moving_disc(1).expand(3, -1, -1, -1)))
    assert len(clip.frames) == 1 and clip.fps == 0


@pytest.mark.parametrize("format", FORMATS)
def test_metadata_comes_back(tmp_path, format):
    workflow = {"nodes": [{"text": 'a "quoted"; = # \\ line\nnext é 動: ende'}], "pad": "x" * 200_000}
    metadata = {"workflow": json.dumps(workflow, ensure_ascii=False), "prompt": "two\nlines", "a": "1", "b": "2"}
    path = tmp_path / f"clip{FORMATS[format].suffix}"
    read = read_clip(write_clip(path, moving_disc(2), metadata=metadata, format=format))
    assert {name: read.metadata.get(name) for name in metadata} == metadata
    assert len(read.frames) == 2


def test_metadata_of_every_frame_of_a_folder(tmp_path):
    folder = write_clip(tmp_path / "clip", moving_disc(3), metadata={"prompt": "{}"})
    assert [file.name for file in sorted(folder.iterdir())] == [f"frame_0000{index}.png" for index in (1, 2, 3)]
    assert all(Image.open(file).text["prompt"] == "{}" for file in folder.iterdir())


def test_no_metadata(tmp_path):
    for suffix in SUFFIXES:
        assert "workflow" not in read_clip(write_clip(tmp_path / f"clip{suffix}", moving_disc(2))).metadata


@pytest.mark.parametrize("format", ["mp4", "mp4 10-bit"])
def test_bytes_and_floats_are_the_same_clip(tmp_path, format):
    frames = (moving_disc(2) * 255).round().to(torch.uint8)
    write_clip(tmp_path / "a.mp4", frames, format=format)
    write_clip(tmp_path / "b.mp4", frames.float() / 255, format=format)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def sound_of(path: Path, channels: int = 1, sample_rate: int = 16000) -> np.ndarray:
    raw = ffmpeg("-i", path, "-f", "f32le", "-ac", str(channels), "-ar", str(sample_rate), "-").stdout
    return np.frombuffer(raw, "<f4").reshape(-1, channels)


@pytest.mark.parametrize("format", [name for name, format in FORMATS.items() if format.audio_encoder])
@pytest.mark.parametrize(("given", "channels", "sample_rate"), [(0.5, 1, 22050), (5.0, 2, 44100)])
def test_the_sound_lasts_as_long_as_the_frames(tmp_path, format, given, channels, sample_rate):
    path = tmp_path / f"clip{FORMATS[format].suffix}"
    write_clip(path, moving_disc(12), 8.0, {"prompt": "1"}, format=format, sound=tone(given, sample_rate, channels))
    video, audio = streams(path)
    assert re.search(STREAMS[format], video)
    assert re.search("aac" if path.suffix == ".mp4" else "opus", audio) and ("mono", "stereo")[channels - 1] in audio
    heard = sound_of(path)[:, 0]
    assert len(heard) / 16000 == pytest.approx(1.5, abs=0.08)
    loud = np.abs(heard[: len(heard) // 100 * 100].reshape(-1, 100)).max(1) > 0.1
    assert loud.sum() * 100 / 16000 == pytest.approx(min(given, 1.5), abs=0.05)
    spectrum = np.abs(np.fft.rfft(heard[1600:6400]))
    assert spectrum.argmax() * 16000 / 4800 == pytest.approx(440, abs=5)
    clip = read_clip(path)
    assert len(clip.frames) == 12 and clip.fps == 8 and clip.metadata["prompt"] == "1"


def test_left_stays_left(tmp_path):
    wave = tone(1.0).waveform * torch.tensor([[1.0], [0.0]])
    heard = sound_of(write_clip(tmp_path / "clip.mp4", moving_disc(8), sound=Sound(wave, 44100)), channels=2)
    assert np.abs(heard[:, 0]).max() > 0.4 and np.abs(heard[:, 1]).max() < 0.02


def test_sounds_that_cannot_be_written(tmp_path):
    for suffix in (".gif", ".webp", ""):
        with pytest.raises(FirstFrameError, match="holds no sound"):
            write_clip(tmp_path / f"clip{suffix}", moving_disc(2), sound=tone(1))
    for wave, rate, message in [(torch.zeros(1, 2, 100), 8000, "1, 2, 100"), (torch.zeros(2, 100), 0, "got 0")]:
        with pytest.raises(FirstFrameError, match=message):
            Sound(wave, rate)
    assert not list(tmp_path.iterdir())


class Stop(Exception):
    pass


@pytest.mark.parametrize("format", FORMATS)
def test_stopped_on_the_way_leaves_nothing(tmp_path, format):
    def stop(count: int) -> None:
        seen.append(sorted(file.name for file in tmp_path.iterdir()))
        if count == 3:
            raise Stop

    seen: list[list[str]] = []
    with pytest.raises(Stop):
        write_clip(tmp_path / f"clip{FORMATS[format].suffix}", moving_disc(6), format=format, progress=stop)
    assert len(seen) == 3 and all(name.startswith(".firstframe-") for names in seen for name in names)
    assert not list(tmp_path.iterdir())


def child_processes() -> set[int]:
    tasks = Path(f"/proc/{os.getpid()}/task").iterdir()
    return {int(child) for task in tasks for child in (task / "children").read_text().split()}


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the encoder through Linux's /proc")
@pytest.mark.parametrize("format", ["mp4", "webm av1"])
def test_a_killed_encoder_leaves_nothing(tmp_path, format):
    def kill(count: int) -> None:
        if count == 3:
            (encoder,) = child_processes() - before
            os.kill(encoder, signal.SIGKILL)

    before = child_processes()
    target = tmp_path / f"clip{FORMATS[format].suffix}"
    target.write_bytes(b"an older clip")
    with pytest.raises(FirstFrameError, match="ffmpeg failed: it ended with code -9"):
        write_clip(target, moving_disc(200, 96, 128), format=format, progress=kill)
    assert target.read_bytes() == b"an older clip" and list(tmp_path.iterdir()) == [target]
    assert child_processes() == before


def test_a_replaced_file_is_whole(tmp_path):
    target = tmp_path / "clip.mp4"
    target.write_bytes(b"an older clip")
    with pytest.raises(FirstFrameError, match="ffmpeg failed"):
        write_clip(target, moving_disc(2), crf=-1000)
    assert target.read_bytes() == b"an older clip" and list(tmp_path.iterdir()) == [target]
    write_clip(target, moving_disc(2))
    assert len(read_clip(target).frames) == 2 and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_has_the_name_already_stays(tmp_path, suffix):
    names = [tmp_path / f"clip_{number}{suffix}" for number in range(1, 5)]
    names[0].write_bytes(b"a file")
    names[1].mkdir()
    (names[1] / "inside").write_bytes(b"a folder")
    names[2].symlink_to(tmp_path / "nowhere")
    written = write_clip(names, moving_disc(2))
    assert written == names[3] and len(read_clip(written).frames) == 2
    assert names[0].read_bytes() == b"a file" and (names[1] / "inside").read_bytes() == b"a folder"
    assert names[2].is_symlink() and sorted(tmp_path.iterdir()) == names
    with pytest.raises(FirstFrameError, match=r"clip_1.*clip_2.*name another"):
        write_clip(names, moving_disc(2))
    assert sorted(tmp_path.iterdir()) == names


@pytest.mark.parametrize("suffix", [".mp4", ".webp", ""])
def test_writers_at_the_same_time_get_names_of_their_own(tmp_path, suffix):
    start = threading.Barrier(8)

    def write(writer: int) -> tuple[int, Path]:
        names = (tmp_path / f"clip_{number:05}{suffix}" for number in count(1))
        start.wait()
        frames = torch.stack([torch.full((16, 16, 3), 0.1 * writer), torch.full((16, 16, 3), 0.1 * writer + 0.05)])
        return writer, write_clip(names, frames)

    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(write, range(8)))
    assert sorted(path.name for _, path in written) == [f"clip_{number:05}{suffix}" for number in range(1, 9)]
    for writer, path in written:
        assert read_clip(path).frames[0].float().mean() / 255 == pytest.approx(0.1 * writer, abs=0.02)
    assert len(list(tmp_path.iterdir())) == 8


def test_a_folder_that_is_in_use(tmp_path):
    folder = tmp_path / "frames"
    check_format(folder)
    folder.mkdir()
    check_format(folder)
    write_clip(folder, moving_disc(2))
    for act in (check_format, lambda path: write_clip(path, moving_disc(3))):
        with pytest.raises(FirstFrameError, match=r"frames.*name another"):
            act(folder)
    assert len(read_clip(folder).frames) == 2 and list(tmp_path.iterdir()) == [folder]


def test_folders_are_made_and_suffix_case_is_free(tmp_path):
    assert write_clip(tmp_path / "new" / "deep" / "clip.MP4", moving_disc(2)).is_file()
    assert write_clip(tmp_path / "clip.WebP", moving_disc(2), format="webp").is_file()
    assert write_clip(tmp_path / "version 1.5", moving_disc(2), format="png").is_dir()


def test_what_is_no_clip_is_refused(tmp_path):
    with pytest.raises(FirstFrameError, match=r"avi.*\.mp4, \.webm, \.gif, \.webp, or be a folder"):
        write_clip(tmp_path / "clip.avi", moving_disc(2))
    with pytest.raises(FirstFrameError, match=r"mp4.*as webp.*end in \.webp"):
        write_clip(tmp_path / "clip.mp4", moving_disc(2), format="webp")
    with pytest.raises(FirstFrameError, match="no format 'mkv'; there are mp4, webm"):
        write_clip(tmp_path / "clip.mkv", moving_disc(2), format="mkv")
    with pytest.raises(FirstFrameError, match=r"fps must be from 0\.01 to 500, got 0"):
        write_clip(tmp_path / "clip.mp4", moving_disc(2), fps=0)
    for shape in [(48, 64, 3), (0, 48, 64, 3), (2, 48, 64, 4)]:
        with pytest.raises(FirstFrameError, match=rf"got shape \({shape[0]}, "):
            write_clip(tmp_path / "clip.mp4", torch.zeros(shape))
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "text.webp").write_text("not an image")
    (tmp_path / "empty").mkdir()
    for name in ("text.mp4", "text.webp", "missing.mp4", "empty"):
        with pytest.raises(FirstFrameError, match=name):
            read_clip(tmp_path / name)


def test_contact_sheet():
    frames = moving_disc(9)
    sheet = contact_sheet(frames, columns=4, gap=2)
    assert sheet.size == (4 * 66 - 2, 3 * 50 - 2)
    assert sheet.getpixel((66 + 20, 50 + 24)) == tuple((frames[5, 24, 20] * 255).round().int().tolist())
    assert sheet.getpixel((200, 140)) == (255, 255, 255)  # the tenth place is empty
    assert contact_sheet(frames[:2]).size == (130, 48)
