"""Clips from files."""

from __future__ import annotations

from pathlib import Path

import imageio_ffmpeg
import numpy as np
import torch

from ...errors import FirstFrameError
from .clip import VideoClip
from .metadata import read_metadata
from .png import read_pngs
from .webp import read_webp


def read_clip(path: str | Path) -> VideoClip:
    """Read a whole clip: a video, a webp, or a folder of png that `write_clip` made. Raises FirstFrameError."""
    path = Path(path)
    if not path.exists():
        raise FirstFrameError(f"there is no file {str(path)!r}")
    try:
        if path.is_dir():
            return read_pngs(path)
        return read_webp(path) if path.suffix.lower() == ".webp" else _read_video(path)
    except (OSError, RuntimeError, StopIteration) as error:
        raise FirstFrameError(f"{str(path)!r} is not a video that can be read") from error


def _read_video(path: Path) -> VideoClip:
    # every frame of the file once: none repeated or dropped to keep the pace
    reader = imageio_ffmpeg.read_frames(str(path), output_params=["-fps_mode", "passthrough"])
    about = next(reader)
    frames = [np.frombuffer(frame, np.uint8) for frame in reader]
    width, height = about["size"]
    pixels = torch.from_numpy(np.stack(frames)).reshape(len(frames), height, width, 3)
    return VideoClip(pixels, about["fps"], read_metadata(path))
