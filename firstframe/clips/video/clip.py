"""A clip with all that a file holds of it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ...errors import FirstFrameError


@dataclass(frozen=True)
class VideoClip:
    """A clip and what its file says about it.

    Attributes:
        frames: (F, H, W, 3); uint8 if they come from a file.
        fps: frames per second.
        metadata: text by name.
    """

    frames: Tensor
    fps: float
    metadata: dict[str, str]


def check_fps(fps: float) -> None:
    """Raises FirstFrameError where ``fps`` is not from 0.01 to 500, what every format but gif can hold."""
    if not 0.01 <= fps <= 500:
        raise FirstFrameError(f"fps must be from 0.01 to 500, got {fps}")
