"""A folder of png: every frame as it is, for an editor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile, PngInfo

from ...errors import FirstFrameError
from ..images import open_image
from .clip import VideoClip, check_fps
from .frames import gather, images


def write_pngs(folder: Path, clip: VideoClip, progress: Callable[[int], None]) -> None:
    """Makes ``folder`` with frame_00001.png and so on, each with the clip's text and its `fps`."""
    folder.mkdir()
    text = PngInfo()
    for name, value in {**clip.metadata, "fps": f"{clip.fps:g}"}.items():
        text.add_text(name, value)
    for count, image in enumerate(images(clip.frames), 1):
        Image.fromarray(image).save(folder / f"frame_{count:05}.png", pnginfo=text, compress_level=4)
        progress(count)


def read_pngs(folder: Path) -> VideoClip:
    """A folder that `write_pngs` made. Raises FirstFrameError."""
    files = sorted(folder.glob("frame_*.png"))
    if not files:
        raise FirstFrameError("it holds no frame_*.png")
    with open_image(files[0]) as first:
        text = dict(first.text) if isinstance(first, PngImageFile) else {}
    if "fps" not in text:
        raise FirstFrameError(f"{files[0].name} says no fps: it is not from a clip")
    fps = float(text.pop("fps"))
    check_fps(fps)
    return VideoClip(gather(map(_pixels, files)), fps, text)


def _pixels(file: Path) -> NDArray[np.uint8]:
    with open_image(file) as image:
        return np.asarray(image.convert("RGB"))
