"""Animated webp, with Pillow: ffmpeg writes no text into one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count, pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageSequence, TiffTags
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from .clip import VideoClip
from .frames import pictures

QUALITY = 90  # 0..100; 100 is still lossy
EXIF_HEADER = b"Exif\0\0II*\0\x08\0\0\0"


def write_webp(path: Path, clip: VideoClip, progress: Callable[[int], None]) -> None:
    """A webp that repeats for ever. Equal neighbours become one longer frame. ``progress`` counts frames."""
    images = []
    for picture in pictures(clip.frames):
        images.append(Image.fromarray(picture))
        progress(len(images))
    # whole milliseconds, without drifting from the pace
    ends = [round(1000 * index / clip.fps) for index in range(len(images) + 1)]
    durations = [end - start for start, end in pairwise(ends)]
    exif = _to_exif(clip.metadata) if clip.metadata else b""
    first, *others = images
    first.save(
        path, save_all=True, append_images=others, duration=durations, loop=0, quality=QUALITY, method=4, exif=exif
    )


def read_webp(path: Path) -> VideoClip:
    """Its fps is the mean; 0 where all frames were equal, and the file is a still picture. Raises OSError."""
    frames, duration = [], 0
    with Image.open(path) as image:
        for frame in ImageSequence.Iterator(image):
            frames.append(np.asarray(frame.convert("RGB")))
            duration += frame.info.get("duration", 0)
        metadata = _from_exif(image)
    fps = 1000 * len(frames) / duration if duration else 0.0
    return VideoClip(torch.from_numpy(np.stack(frames)), fps, metadata)


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
    texts = [value for value in image.getexif().values() if isinstance(value, str) and ":" in value]
    # Pillow takes the bytes of UTF-8 for Latin-1
    return dict(text.encode("latin-1").decode("utf-8").split(":", 1) for text in texts)
