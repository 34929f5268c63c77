"""Frame 0 is the image, and its detail comes back where nothing moved."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from firstframe.clips.exact import exact_first_frame
from firstframe.errors import FirstFrameError, ImageError


@pytest.fixture
def image() -> Tensor:
    return torch.rand(32, 48, 3, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.4


@pytest.fixture
def frames(image: Tensor) -> Tensor:
    """A still clip of six frames that lost all detail; in the right half something white comes in from frame 2 on."""
    clip = image.mean((0, 1)).expand(6, 32, 48, 3).clone()
    clip[2:, :, 24:] = 1.0
    return clip


def lost(frames: Tensor, image: Tensor) -> list[float]:
    return [(frame[:, :16] - image[:, :16]).abs().mean().item() for frame in frames]


def test_frame_0_is_the_image_bit_for_bit(frames: Tensor, image: Tensor) -> None:
    for fade in (0, 1, 4, 100):
        made = exact_first_frame(frames, image, fade)
        assert torch.equal(made[0], image) and made.shape == frames.shape


def test_detail_fades_evenly(frames: Tensor, image: Tensor) -> None:
    made, whole = lost(exact_first_frame(frames, image, 4), image), lost(frames, image)
    assert made[0] == 0
    assert [made[f] / whole[f] for f in (1, 2, 3)] == pytest.approx([0.25, 0.5, 0.75], abs=0.02)
    assert made[4:] == whole[4:]


def test_what_moved_gets_nothing(frames: Tensor, image: Tensor) -> None:
    made = exact_first_frame(frames, image, 6)
    assert torch.allclose(made[2:, :, 30:], torch.ones(1), atol=1e-3)


def test_without_fading_only_frame_0_changes(frames: Tensor, image: Tensor) -> None:
    for fade in (0, 1):
        assert torch.equal(exact_first_frame(frames, image, fade)[1:], frames[1:])


def test_refusals(frames: Tensor, image: Tensor) -> None:
    with pytest.raises(ImageError, match="the image is 48 x 16, the frames are 48 x 32"):
        exact_first_frame(frames, image[:16])
    with pytest.raises(FirstFrameError, match="at least 0, got -1"):
        exact_first_frame(frames, image, -1)
