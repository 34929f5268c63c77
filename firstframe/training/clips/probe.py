"""What a clip's file is like: how many frames, how large, how fast, and whether evenly."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import imageio_ffmpeg
from PIL import ImageSequence

from ...clips.images import open_image
from ...clips.video.ffmpeg import description, run_ffmpeg
from ...errors import FirstFrameError
from .find import images_of

BLOCK = 1 << 20
UNEVEN = 0.1


@dataclass(frozen=True)
class Probe:
    """A clip as its file says it is.

    Attributes:
        digest: of the file's content, or of all images of a sequence.
        fps: 0 where the file does not say it.
        steady: whether all frames last equally long.
        rotation: degrees by which players turn the frames.
    """

    digest: str
    frames: int
    width: int
    height: int
    fps: float
    steady: bool = True
    rotation: int = 0


def probe(path: Path, memory: Path) -> Probe:
    """Look at a clip, or remember what was seen, for a file that has not changed since.

    Args:
        path: a video, or a folder of images.
        memory: a folder for what was seen.

    Raises:
        FirstFrameError: it cannot be read.
    """
    files = images_of(path) if path.is_dir() else [path]
    try:
        stats = [(str(file.absolute()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    except OSError as error:
        raise FirstFrameError(error.strerror or str(error)) from error
    note = memory / f"{hashlib.sha256(json.dumps(stats).encode()).hexdigest()[:32]}.json"
    if note.exists():
        return Probe(**json.loads(note.read_text("utf-8")))
    seen = Probe(digest_of(files), **_look(path))
    memory.mkdir(parents=True, exist_ok=True)
    unfinished = note.with_suffix(f".{seen.digest}.part")
    unfinished.write_text(json.dumps(asdict(seen)), "utf-8")
    unfinished.replace(note)
    return seen


def digest_of(files: Iterable[Path]) -> str:
    """Of the content of files, in this order. Raises OSError."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as content:
            while block := content.read(BLOCK):
                digest.update(block)
    return digest.hexdigest()[:32]


def _look(path: Path) -> dict[str, Any]:
    try:
        if path.is_dir():
            return _look_at_images(path)
        return _look_at_webp(path) if path.suffix.lower() == ".webp" else _look_at_video(path)
    except FirstFrameError:
        raise
    except Exception as error:  # ffmpeg, imageio-ffmpeg and Pillow raise errors of many kinds on damaged files
        raise FirstFrameError(f"it cannot be read ({(str(error) or type(error).__name__).splitlines()[0]})") from error


def _look_at_images(folder: Path) -> dict[str, Any]:
    files = images_of(folder)
    sizes = set()
    for file in files:
        with open_image(file) as image:
            sizes.add(image.size)
    if len(sizes) > 1:
        raise FirstFrameError(f"its images are of {len(sizes)} sizes")
    width, height = sizes.pop()
    return {"frames": len(files), "width": width, "height": height, "fps": 0.0}


def _look_at_webp(path: Path) -> dict[str, Any]:
    with open_image(path) as image:
        width, height = image.size
        lasting = []
        for frame in ImageSequence.Iterator(image):
            frame.load()
            lasting.append(frame.info.get("duration", 0))
    total = sum(lasting)
    fps = 1000 * len(lasting) / total if total else 0.0
    return {"frames": len(lasting), "width": width, "height": height, "fps": fps, "steady": _steady(lasting[:-1], 1)}


def _look_at_video(path: Path) -> dict[str, Any]:
    reader = imageio_ffmpeg.read_frames(str(path.absolute()))
    about = next(reader)
    reader.close()
    told = run_ffmpeg(["-i", str(path.absolute()), "-map", "0:v:0", "-c", "copy", "-f", "framecrc", "-"]).decode()
    lines = [line.split(",") for line in told.splitlines() if not line.startswith("#")]
    times = sorted(int(line[2]) for line in lines)
    lasting = [later - earlier for earlier, later in pairwise(times)]
    width, height = about["source_size"]
    return {
        "frames": len(times),
        "width": width,
        "height": height,
        "fps": float(about["fps"]),
        "steady": _steady(lasting, 1),
        "rotation": _rotation(path),
    }


def _rotation(path: Path) -> int:
    """imageio-ffmpeg knows older files' rotation only."""
    match = re.search(r"rotation of (-?\d+)", description(str(path.absolute())))
    return int(match[1]) % 360 if match else 0


def _steady(lasting: list[int], tick: int) -> bool:
    """Whether frames last equally long, but for the rounding to ticks."""
    if not lasting:
        return True
    usual = median(lasting)
    return all(abs(each - usual) <= max(UNEVEN * usual, tick) for each in lasting)
