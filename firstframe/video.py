"""Clips to files and back (mp4, webm, gif) with the ffmpeg program that imageio-ffmpeg brings."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from .errors import FirstFrameError

# Everything is encoded as BT.709 in the limited ("tv") range and says so in its tags, whatever the size.
_BT709 = ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"]
_TO_YUV = "scale=in_range=pc:out_range=tv:out_color_matrix=bt709:flags=accurate_rnd+full_chroma_int,format=yuv420p"
_TO_GIF = "split[a][b];[a]palettegen=stats_mode=full[p];[b][p]paletteuse=dither=sierra2_4a"
_ENCODERS = {
    ".mp4": ["-vf", _TO_YUV, *_BT709, "-c:v", "libx264", "-movflags", "+faststart+use_metadata_tags"],
    ".webm": ["-vf", _TO_YUV, *_BT709, "-c:v", "libvpx-vp9", "-b:v", "0", "-cpu-used", "4"],
    ".gif": ["-vf", _TO_GIF, "-loop", "0"],
}


@dataclass(frozen=True)
class VideoClip:
    """What a file holds: frames (F, H, W, 3) uint8, frames per second, and the container's text metadata."""

    frames: Tensor
    fps: float
    metadata: dict[str, str]


def write_clip(
    path: str | Path,
    frames: Tensor,
    fps: float = 8.0,
    metadata: Mapping[str, str] | None = None,
    crf: int = 18,
) -> Path:
    """Write frames to a file whose suffix names the format: .mp4 (H.264), .webm (VP9), .gif (own palette).

    frames: (F, H, W, 3), uint8 or floats in [0, 1]. H.264 in yuv420p needs even sides: an odd one gets its
        last row or column repeated once, nothing is cropped.
    fps: frames per second; a gif counts in hundredths of a second.
    metadata: text put into the container under its names (a gif: as JSON in a comment). ComfyUI reads
        `workflow` and `prompt` from mp4 and webm.
    crf: quality of mp4 and webm, 0 (best) to 51; 18 looks lossless.

    The file appears whole or not at all. Returns the path. Raises FirstFrameError.
    """
    path = Path(path)
    check_format(path)
    pixels = _even(to_uint8(frames)) if path.suffix.lower() == ".mp4" else to_uint8(frames)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _replacing(path) as unfinished:
        _encode(unfinished, pixels, fps, metadata or {}, crf)
    return path


def check_format(path: str | Path) -> None:
    """Raises FirstFrameError where the suffix is none that `write_clip` knows."""
    if Path(path).suffix.lower() not in _ENCODERS:
        raise FirstFrameError(f"cannot write {str(path)!r}: the name must end in {', '.join(_ENCODERS)}")


def read_clip(path: str | Path) -> VideoClip:
    """Read a whole clip. Raises FirstFrameError where there is none to read."""
    if not Path(path).is_file():
        raise FirstFrameError(f"there is no file {str(path)!r}")
    # every frame of the file once: none repeated or dropped to keep the pace
    reader = imageio_ffmpeg.read_frames(str(path), output_params=["-fps_mode", "passthrough"])
    try:
        about = next(reader)
        frames = [np.frombuffer(frame, np.uint8) for frame in reader]
    except (OSError, RuntimeError, StopIteration) as error:
        raise FirstFrameError(f"{str(path)!r} is not a video that ffmpeg can read") from error
    width, height = about["size"]
    pixels = torch.from_numpy(np.stack(frames)).reshape(len(frames), height, width, 3)
    return VideoClip(pixels, about["fps"], _read_metadata(Path(path)))


def contact_sheet(frames: Tensor, columns: int = 8, gap: int = 2) -> Image.Image:
    """All frames side by side in rows, to see a clip at a glance.

    frames: (F, H, W, 3), uint8 or floats in [0, 1]; gap: white pixels between them.
    """
    pixels = to_uint8(frames)
    count, height, width, _ = pixels.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    sheet = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), "white")
    for index, frame in enumerate(pixels.numpy()):
        row, column = divmod(index, columns)
        sheet.paste(Image.fromarray(frame), (column * (width + gap), row * (height + gap)))
    return sheet


def to_uint8(frames: Tensor) -> Tensor:
    """A clip (F, H, W, 3), uint8 or floats in [0, 1], as uint8 on the CPU. Refuses any other shape."""
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.numel() == 0:
        raise FirstFrameError(f"a clip is (F, H, W, 3), got shape {tuple(frames.shape)}")
    frames = frames.detach().cpu()
    return frames if frames.dtype == torch.uint8 else (frames.float().clamp(0, 1) * 255).round().to(torch.uint8)


def _even(frames: Tensor) -> Tensor:
    """(F, H, W, 3) with even sides, the last row or column repeated where needed."""
    height, width = frames.shape[1:3]
    planes = functional.pad(frames.movedim(-1, 1), (0, width % 2, 0, height % 2), mode="replicate")
    return planes.movedim(1, -1)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to; becomes `path` at the end, or vanishes on an error."""
    unfinished = path.with_name(f".{path.stem}-{uuid.uuid4().hex}{path.suffix.lower()}")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _encode(path: Path, frames: Tensor, fps: float, metadata: Mapping[str, str], crf: int) -> None:
    """(F, H, W, 3) uint8 to a file in the format of its suffix."""
    height, width = frames.shape[1:3]
    quality = [] if path.suffix == ".gif" else ["-crf", str(crf)]
    with tempfile.TemporaryDirectory() as folder:
        tags = Path(folder, "tags.txt")  # a file, because a workflow can be longer than a command line may be
        tags.write_text(_to_ffmetadata(metadata), "utf-8")
        source = [
            "-f",
            "rawvideo",
            "-pix_fmt",
            "rgb24",
            "-s",
            f"{width}x{height}",
            "-r",
            f"{fps}",
            "-i",
            "pipe:0",
        ]
        command = [*source, "-f", "ffmetadata", "-i", str(tags), "-map", "0:v", "-map_metadata", "1"]
        _ffmpeg([*command, *_ENCODERS[path.suffix], *quality, str(path)], frames.numpy().tobytes())
    if path.suffix == ".gif" and metadata:
        _comment_gif(path, metadata)


def _ffmpeg(arguments: list[str], data: bytes = b"") -> bytes:
    """Run ffmpeg, feed it data, return what it prints."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", *arguments]
    result = subprocess.run(command, input=data, capture_output=True, check=False)
    if result.returncode:
        message = result.stderr.decode("utf-8", "replace").strip()
        raise FirstFrameError(f"ffmpeg failed: {message}")
    return result.stdout


def _to_ffmetadata(metadata: Mapping[str, str]) -> str:
    def escape(text: str) -> str:
        return re.sub(r"([=;#\\\n])", r"\\\1", text)

    return ";FFMETADATA1\n" + "".join(f"{escape(key)}={escape(value)}\n" for key, value in metadata.items())


def _read_metadata(path: Path) -> dict[str, str]:
    if path.suffix.lower() == ".gif":
        comment = Image.open(path).info.get("comment", b"{}")
        return dict(json.loads(comment))
    printed = _ffmpeg(["-i", str(path), "-f", "ffmetadata", "pipe:1"]).decode("utf-8")
    entries = re.findall(r"^((?:[^=;#\\\n]|\\[\s\S])+)=((?:[^\\\n]|\\[\s\S])*)$", printed, re.MULTILINE)
    unescaped = {re.sub(r"\\([\s\S])", r"\1", key): re.sub(r"\\([\s\S])", r"\1", value) for key, value in entries}
    # Matroska writes the names of tags in capitals
    return {key.lower(): value for key, value in unescaped.items()} if path.suffix.lower() == ".webm" else unescaped


def _comment_gif(path: Path, metadata: Mapping[str, str]) -> None:
    """Put a comment block before the first frame; ffmpeg writes none."""
    data, text = path.read_bytes(), json.dumps(metadata).encode()
    colours = data[10]  # the flag of a global colour table, and its size
    start = 13 + (3 << (colours & 7) + 1 if colours & 128 else 0)
    blocks = [text[i : i + 255] for i in range(0, len(text), 255)]
    comment = b"\x21\xfe" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\x00"
    path.write_bytes(data[:start] + comment + data[start:])
