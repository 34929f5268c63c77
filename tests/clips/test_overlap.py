"""Clips that overlap: what is handed over, and how it is joined."""

from __future__ import annotations

import pytest
import torch
from kornia.color import rgb_to_lab
from torch import Tensor

from firstframe.clips.color import match_clip_color
from firstframe.clips.overlap import continued, join_overlapping
from firstframe.errors import FramesError


@pytest.fixture
def clip(generator: torch.Generator) -> Tensor:
    """Six frames of mid-grey noise."""
    return 0.3 + 0.4 * torch.rand(6, 16, 16, 3, generator=generator)


def test_the_next_clip_begins_with_the_last_latents(clip: Tensor, generator: torch.Generator) -> None:
    latents = torch.randn(6, 4, 2, 2, generator=generator)
    reference = continued(latents, clip, 3, hold_colors=False)
    assert torch.equal(reference.pixels[0].movedim(0, -1), clip[3])
    held = reference.by_frame(6)
    assert list(held) == [0, 1, 2]
    assert torch.equal(torch.cat([*held.values()]), latents[3:])


def test_a_drift_is_not_handed_on(clip: Tensor, generator: torch.Generator) -> None:
    still = torch.randn(1, 4, 8, 8, generator=generator).expand(6, -1, -1, -1)
    drifted = torch.cat([still[:1], 1.1 * still[1:] + torch.tensor([0.5, -0.3, 0.2, 0]).view(4, 1, 1)])
    held = continued(drifted, clip, 3).by_frame(6)
    torch.testing.assert_close(torch.cat([*held.values()]), still[:3], atol=0.02, rtol=0)


@pytest.mark.parametrize("overlap", [0, 6])
def test_something_must_be_new(clip: Tensor, overlap: int) -> None:
    with pytest.raises(FramesError, match=f"from 1 to 5 for a clip of 6, got {overlap}"):
        continued(torch.zeros(6, 4, 2, 2), clip, overlap)
    with pytest.raises(FramesError, match=f"got {overlap}"):
        join_overlapping([clip, clip], overlap)


def test_latents_of_another_clip(clip: Tensor) -> None:
    with pytest.raises(FramesError, match="5 latents and 6 frames"):
        continued(torch.zeros(5, 4, 2, 2), clip, 2)


def test_what_both_have_stays_and_is_there_once(clip: Tensor, generator: torch.Generator) -> None:
    later = torch.cat([clip[-2:], torch.rand(4, 16, 16, 3, generator=generator)])
    joined = join_overlapping([clip, later], 2, match_colors=False)
    assert len(joined) == 10
    torch.testing.assert_close(joined[:6], clip)
    assert torch.equal(joined[6:], later[2:])


def test_what_differs_is_blended_from_one_to_the_other(clip: Tensor) -> None:
    joined = join_overlapping([torch.zeros_like(clip), torch.ones_like(clip)], 3, match_colors=False)
    torch.testing.assert_close(joined[:, 0, 0, 0], torch.tensor([0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1]))


def test_two_sizes(clip: Tensor) -> None:
    with pytest.raises(FramesError, match="16x16 and 16x8"):
        join_overlapping([clip, clip[:, :8]], 2)


def test_a_colour_cast_goes_by_one_transform(clip: Tensor) -> None:
    cast = clip * torch.tensor([0.8, 1.0, 1.1])
    matched = match_clip_color(cast, clip)
    before, after = ((mean_lab(frames) - mean_lab(clip)).norm() for frames in (cast, matched))
    assert before > 5 and after < 0.5


def mean_lab(frames: Tensor) -> Tensor:
    return rgb_to_lab(frames.movedim(-1, 1)).mean((0, 2, 3))


def test_without_a_cast_nothing_changes(clip: Tensor) -> None:
    torch.testing.assert_close(match_clip_color(clip, clip), clip, atol=1e-4, rtol=0)


def test_soft_frames_stay_soft(clip: Tensor) -> None:
    soft = 0.5 + 0.5 * (clip - 0.5)
    torch.testing.assert_close(match_clip_color(soft, clip).std(), soft.std(), atol=0.005, rtol=0)


def test_a_step_in_colours_behind_the_held_frames_is_taken_back(clip: Tensor) -> None:
    brighter = torch.cat([clip[-2:], clip[:4] + 0.15])
    joined = join_overlapping([clip, brighter], 2)
    jump = (mean_lab(joined[6:7]) - mean_lab(joined[5:6])).norm()
    assert jump < 0.1 * (mean_lab(brighter[2:3]) - mean_lab(brighter[1:2])).norm()
