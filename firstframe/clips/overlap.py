"""Longer video from clips that overlap: the next one begins with the last frames of the one before, as latents.

Latents pass from clip to clip as they are. Decoding and encoding them in between loses detail each time.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import FramesError
from .color import match_clip_color
from .reference import Reference

_MOST_GAIN = 1.25
"""A clip with less contrast than this share of its first frame has changed its content, not drifted."""


def continued(latents: Tensor, frames: Tensor, overlap: int, hold_colors: bool = True) -> Reference:
    """What the next clip starts from: the last frames of this one, each held in a frame of its own.

    Colours and contrast of a clip move away from its first frame, and would go on to move in the next clip.

    Args:
        latents: (F, C, H/8, W/8) of a clip, at the autoencoder's scale.
        frames: (F, H, W, 3), the same clip decoded.
        overlap: K, how many frames both clips have.
        hold_colors: take the clip's drift out of what is handed over, by one transform for the whole clip: in each
            channel, its frames get mean and deviation of its first frame.

    Returns:
        A reference whose first K frames are the last K of the clip. More images may be added to it, for example one
        for the last frame.

    Raises:
        FramesError: K is not from 1 to F - 1, or latents and frames are not of one clip.
    """
    if len(latents) != len(frames):
        raise FramesError(f"{len(latents)} latents and {len(frames)} frames are not of one clip")
    check_overlap(overlap, len(latents))
    handed = _like(latents[-overlap:], latents[1:], latents[:1]) if hold_colors else latents[-overlap:]
    first, *others = torch.split(handed, 1)
    pixels = frames[-overlap, ..., :3].movedim(-1, 0)[None]
    return Reference(pixels, first, others=dict(enumerate(others, 1)))


def _like(handed: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """``handed`` as ``source`` would be with the statistics of ``target``; all are (F, C, H, W)."""
    (mean, deviation), (wanted_mean, wanted_deviation) = map(_statistics, (source, target))
    gain = (wanted_deviation / deviation).clamp(1 / _MOST_GAIN, _MOST_GAIN).nan_to_num(1.0)
    return (handed - mean) * gain + wanted_mean


def _statistics(latents: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel over all frames, (1, C, 1, 1)."""
    return latents.mean((0, 2, 3), keepdim=True), latents.std((0, 2, 3), correction=0, keepdim=True)


def check_overlap(overlap: int, num_frames: int) -> None:
    """Raises FramesError where two clips of ``num_frames`` cannot share so many frames."""
    if not 1 <= overlap < num_frames:
        raise FramesError(f"the overlap must be from 1 to {num_frames - 1} for a clip of {num_frames}, got {overlap}")


def join_overlapping(clips: Sequence[Tensor], overlap: int, match_colors: bool = True) -> Tensor:
    """Join clips, each of which begins with the last frames of the one before.

    Args:
        clips: each (F, H, W, 3) in [0, 1].
        overlap: K, how many frames two neighbours have in common. They are blended from one to the other.
        match_colors: give all clips the colours of the very first frame. Held frames and new ones of a clip differ in
            colours, so each have a transform of their own; else the clip would jump where the new ones begin.

    Returns:
        (F', H, W, 3).

    Raises:
        FramesError: two clips differ in size, or one is not longer than the overlap.
    """
    joined = torch.cat([clips[0][:1], match_clip_color(clips[0][1:], clips[0][:1])]) if match_colors else clips[0]
    for clip in clips[1:]:
        check_overlap(overlap, min(len(joined), len(clip)))
        joined = _joined(joined, clip, overlap, match_colors)
    return joined


def _joined(first: Tensor, second: Tensor, overlap: int, match_colors: bool) -> Tensor:
    if first.shape[1:] != second.shape[1:]:
        sizes = [f"{clip.shape[2]}x{clip.shape[1]}" for clip in (first, second)]
        raise FramesError(f"clips of {sizes[0]} and {sizes[1]} pixels cannot be joined; make them in one size")
    held, new = second[:overlap], second[overlap:]
    if match_colors:
        held, new = (match_clip_color(frames, first[:1]) for frames in (held, new))
    share = torch.linspace(0, 1, overlap + 2, device=first.device)[1:-1].view(-1, 1, 1, 1)
    return torch.cat([first[:-overlap], torch.lerp(first[-overlap:], held, share), new])
