"""Longer clips from several."""

from __future__ import annotations

import pytest
import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor

from firstframe.clips.extend import join_clips, sharpness, split_at_best
from firstframe.errors import FramesError


@pytest.fixture
def clip(generator: torch.Generator) -> Tensor:
    """Five frames; the third is sharp, the others are blurred more and more."""
    frames = torch.rand(5, 32, 32, 3, generator=generator).movedim(-1, 1)
    sigmas = [1.0, 1.5, 0.1, 2.0, 3.0]
    blurred = [gaussian_blur2d(frame[None], 21, (sigma, sigma)) for frame, sigma in zip(frames, sigmas, strict=True)]
    return torch.cat(blurred).movedim(1, -1)


def test_sharpness_falls_with_blur(clip: Tensor) -> None:
    assert sharpness(clip).argsort(descending=True).tolist() == [2, 0, 1, 3, 4]


def test_the_next_clip_starts_where_this_one_is_sharpest(clip: Tensor) -> None:
    image, kept = split_at_best(clip, among_last=3)
    assert torch.equal(image, clip[2:3]) and torch.equal(kept, clip[:3])
    image, kept = split_at_best(clip)
    assert torch.equal(image, clip[4:]) and torch.equal(kept, clip)


@pytest.mark.parametrize("among_last", [0, 5])
def test_at_least_two_frames_stay(clip: Tensor, among_last: int) -> None:
    with pytest.raises(FramesError, match="from 1 to 4"):
        split_at_best(clip, among_last)


def test_the_frame_in_which_they_meet_is_kept_once(clip: Tensor) -> None:
    second = torch.cat([clip[-1:], clip[:2]])
    third = torch.cat([second[-1:], clip[3:]])
    joined = join_clips([clip, second, third], match_colors=False)
    assert torch.equal(joined, torch.cat([clip, clip[:2], clip[3:]]))


def test_colours_of_later_clips_are_held(clip: Tensor) -> None:
    tinted = torch.cat([clip[-1:], clip]) * torch.tensor([1.0, 0.6, 0.6])
    plain, matched = (join_clips([clip, tinted], match_colors=match)[len(clip) :] for match in (False, True))
    wanted = clip[-1].mean((0, 1))

    def cast(frames: Tensor) -> Tensor:
        """How far red, green and blue are from each other, against the frame where the clips meet."""
        return ((frames.mean((0, 1, 2)) - wanted) - (frames.mean((0, 1, 2)) - wanted).mean()).abs().max()

    assert cast(matched) < 0.25 * cast(plain)


def test_what_cannot_be_joined(clip: Tensor) -> None:
    with pytest.raises(FramesError, match="32x32 and 32x16 pixels"):
        join_clips([clip, clip[:, :16]])
    with pytest.raises(FramesError, match="one frame"):
        join_clips([clip, clip[:1]])
