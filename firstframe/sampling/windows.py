"""Context windows: clips longer than a motion module's positions, a piece at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import FramesError


def anchored_windows(num_frames: int, length: int, overlap: int) -> list[list[int]]:
    """Windows of ``length`` frames that cover a clip; every one begins with frame 0, the image.

    Behind it stand ``length - 1`` neighbouring frames; two neighbouring windows share at least ``overlap`` of them. All
    windows are equally long, and evenly spread. A clip that fits into one window is one window.

    Raises FramesError where the overlap leaves nothing to go on with.
    """
    if num_frames <= length:
        return [list(range(num_frames))]
    run, last = length - 1, num_frames - length + 1  # frames behind the anchor, and where the last such run begins
    if not 0 <= overlap < run:
        raise FramesError(
            f"windows of {length} frames hold the image and {run} more, of which at most {run - 1} can overlap; "
            f"got an overlap of {overlap}"
        )
    count = 1 + -(-(last - 1) // (run - overlap))
    starts = [1 + round(index * (last - 1) / (count - 1)) for index in range(count)]
    return [[0, *range(start, start + run)] for start in starts]


def blend_weights(length: int) -> Tensor:
    """How much each frame of a window counts where windows overlap, (length,) in (0, 1]: most in the middle."""
    position = torch.arange(length, dtype=torch.float32)
    return 1.0 - (position - (length - 1) / 2).abs() / ((length + 1) / 2)
