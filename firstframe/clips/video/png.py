"""A folder of png: every frame as it is, for an editor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngImageFile, PngInfo

from ...errors import FirstFrameError
from .clip import VideoClip
from .frames import pictures


def write_pngs(folder: Path, clip: VideoClip, progress: Callable[[int], None]) -> None:
    """Makes ``folder`` with frame_00001.png and so on, each with the clip's text and its `fps`."""
    folder.mkdir()
    text = PngInfo()
    for name, value in {**clip.metadata, "fps": f"{clip.fps:g}"}.items():
        text.add_text(name, value)
    for count, picture in enumerate(pictures(clip.frames), 1):
        Image.fromarray(picture).save(folder / f"frame_{count:05}.png", pnginfo=text, compress_level=4)
        progress(count)


def read_pngs(folder: Path) -> VideoClip:
    """A folder that `write_pngs` made. Raises FirstFrameError, or OSError where Pillow cannot read."""
    files = sorted(folder.glob("frame_*.png"))
    if not files:
        raise FirstFrameError(f"there are no frame_*.png in {str(folder)!r}")
    with PngImageFile(files[0]) as first:
        text = dict(first.text)
    if "fps" not in text:
        raise FirstFrameError(f"{str(files[0])!r} says no fps: it is not from a clip")
    pixels = []
    for file in files:
        with Image.open(file) as image:
            pixels.append(np.asarray(image.convert("RGB")))
    return VideoClip(torch.from_numpy(np.stack(pixels)), float(text.pop("fps")), text)
