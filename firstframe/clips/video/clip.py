"""A clip with all that a file holds of it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class VideoClip:
    """Frames (F, H, W, 3), frames per second, and the file's own text. From a file the frames are uint8."""

    frames: Tensor
    fps: float
    metadata: dict[str, str]
