"""Animated webp, with Pillow: ffmpeg writes no text into one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from itertools import count, pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageSequence, TiffTags
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from ..images import open_image
from .clip import VideoClip
from .frames import gather, images

QUALITY = 90  # 0..100; 100 is still lossy
EXIF_HEADER = b"Exif\0\0II*\0\x08\0\0\0"


def write_webp(path: Path, clip: VideoClip, progress: Callable[[int], None]) -> None:
    """A webp that repeats for ever. Equal neighbours become one longer frame. ``progress`` counts frames."""
    taken = []
    for image in images(clip.frames):
        taken.append(Image.fromarray(image))
        progress(len(taken))
    # whole milliseconds, without drifting from the pace
    ends = [round(1000 * index / clip.fps) for index in range(len(taken) + 1)]
    durations = [end - start for start, end in pairwise(ends)]
    exif = _to_exif(clip.metadata) if clip.metadata else b""
    first, *others = taken
    first.save(
        path, save_all=True, append_images=others, duration=durations, loop=0, quality=QUALITY, method=4, exif=exif
    )


def read_webp(path: Path) -> VideoClip:
    """Its fps is the mean; 0 where all frames were equal, and the file is a still image. Raises FirstFrameError."""
    durations: list[int] = []
    with open_image(path) as image:
        frames = gather(_decoded(image, durations))
        metadata = _from_exif(image)
    fps = 1000 * len(durations) / sum(durations) if any(durations) else 0.0
    return VideoClip(frames, fps, metadata)


def _decoded(image: Image.Image, durations: list[int]) -> Iterator[NDArray[np.uint8]]:
    """Frame by frame (H, W, 3); appends its milliseconds to ``durations``, which decoding alone tells."""
    for frame in ImageSequence.Iterator(image):
        yield np.asarray(frame.convert("RGB"))
        durations.append(frame.info.get("duration", 0))


def _to_exif(metadata: Mapping[str, str]) -> bytes:
    """In the text fields of exif, as ComfyUI does: Model = "prompt:…", Make and the tags below it the others."""
    fields = ImageFileDirectory_v2()
    others = count(0x010F, -1)
    for name, text in metadata.items():
        tag = 0x0110 if name == "prompt" else next(others)
        fields.tagtype[tag] = TiffTags.ASCII
        fields[tag] = f"{name}:{text}".encode()
    return EXIF_HEADER + fields.tobytes(8)


def _from_exif(image: Image.Image) -> dict[str, str]:
    """Of the tags that `_to_exif` uses; EXIF that cannot be read is ignored."""
    try:
        exif = dict(image.getexif())
    except Exception as error:  # Pillow raises errors of many kinds on damaged EXIF
        logging.warning(f"FirstFrame: the EXIF data of a webp cannot be read ({error}) and is ignored")
        exif = {}
    texts = [value for tag, value in exif.items() if tag <= 0x0110 and isinstance(value, str) and ":" in value]
    # Pillow takes the bytes of UTF-8 for Latin-1
    return dict(text.encode("latin-1", "replace").decode("utf-8", "replace").split(":", 1) for text in texts)
