"""Longer video from several clips: where the next one starts, and how they are joined.

DreamVideo's two-stage inference (arXiv 2312.03018): the next clip starts from the end of the one before.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from kornia.filters import laplacian
from torch import Tensor

from ..errors import FramesError
from .color import match_color


def sharpness(frames: Tensor) -> Tensor:
    """How much fine detail each frame has: the variance of its Laplacian.

    Args:
        frames: (F, H, W, 3) in [0, 1].

    Returns:
        (F,), larger is sharper.
    """
    grey = frames.float().mean(-1, keepdim=True).movedim(-1, 1)
    return laplacian(grey, kernel_size=3).var((1, 2, 3))


def split_at_best(clip: Tensor, among_last: int = 1) -> tuple[Tensor, Tensor]:
    """The image that the next clip starts with, and the clip up to it.

    Args:
        clip: (F, H, W, 3) in [0, 1].
        among_last: how many of the last frames to choose the sharpest from; 1 takes the last one.

    Returns:
        The image (1, H, W, 3), and the clip (F', H, W, 3) whose last frame it is.

    Raises:
        FramesError: ``among_last`` is not from 1 to F - 1; at least two frames of the clip stay.
    """
    check_among_last(among_last, len(clip))
    first = len(clip) - among_last
    best = first + int(sharpness(clip[first:]).argmax())
    return clip[best : best + 1], clip[: best + 1]


def check_among_last(among_last: int, num_frames: int) -> None:
    """Raises FramesError where a clip of ``num_frames`` cannot be split among so many last frames."""
    if not 1 <= among_last < num_frames:
        raise FramesError(f"among_last must be from 1 to {num_frames - 1} for a clip of {num_frames}, got {among_last}")


def join_clips(clips: Sequence[Tensor], match_colors: bool = True) -> Tensor:
    """Join clips, each of which starts with the last frame of the one before.

    Args:
        clips: each (F, H, W, 3) in [0, 1].
        match_colors: hold the colours (LAB a and b) of every later clip to the frame that it starts from.

    Returns:
        (F', H, W, 3). The frame in which two clips meet is kept once, from the earlier one.

    Raises:
        FramesError: two clips differ in size, or one has nothing after its first frame.
    """
    for clip in clips[1:]:
        if clip.shape[1:] != clips[0].shape[1:]:
            sizes = [f"{part.shape[2]}x{part.shape[1]}" for part in (clips[0], clip)]
            raise FramesError(f"clips of {sizes[0]} and {sizes[1]} pixels cannot be joined; make them in one size")
        if len(clip) < 2:
            raise FramesError("a clip of one frame adds nothing: its first frame is the last of the clip before")
    joined = clips[0]
    for clip in clips[1:]:
        later = match_color(clip[1:], joined[-1]) if match_colors else clip[1:]
        joined = torch.cat([joined, later])
    return joined
