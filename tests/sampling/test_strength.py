from __future__ import annotations

import re

import pytest
import torch

from firstframe.errors import FirstFrameError
from firstframe.sampling.strength import Curve, StrengthSchedule, level_of, size_of

SQUARE = (16, 16)


@pytest.mark.parametrize(
    ("text", "position", "value"),
    [
        ("", 0.7, 1.0),
        ("0: 0.5", 0.9, 0.5),
        ("0: 1, 1: 0", 0.25, 0.75),
        ("0:1,0.5:0,1:2", 0.75, 1.0),
        ("0.2: 3, 0.4: 5", 0.1, 3.0),
        ("0.2: 3, 0.4: 5", 0.4, 5.0),
        ("0.2: 3, 0.4: 5", 9.0, 5.0),
        ("-1: -1, 1: 1", 0.0, 0.0),
    ],
)
def test_a_curve(text: str, position: float, value: float) -> None:
    assert Curve.parse(text).at(position) == pytest.approx(value)


@pytest.mark.parametrize("text", ["1", "0: 1,", "a: 1", "0: 1; 1: 0", "0.5: 1, 0.2: 0", "0: 1, 0: 2", "0: 1e"])
def test_what_is_no_curve(text: str) -> None:
    with pytest.raises(FirstFrameError, match="curve"):
        Curve.parse(text)


def test_without_anything_all_is_one() -> None:
    assert torch.equal(StrengthSchedule().weights(0.3, range(4), SQUARE, (8, 8)), torch.ones(4, 1, 8, 8))


def test_factors_multiply() -> None:
    mask = torch.zeros(1, 32, 32)
    mask[:, :, 16:] = 1.0
    strengths = StrengthSchedule(Curve(((0.0, 1.0), (1.0, 0.0))), Curve(((0.0, 1.0), (2.0, 0.0))), (1.0, 0.5), mask)
    weights = strengths.weights(0.5, [0, 1, 2], SQUARE, (8, 8))
    assert torch.equal(weights[0, 0, :, 4:], torch.full((8, 4), 0.5 * 0.5))
    assert torch.equal(weights[1, 0, :, 4:], torch.full((8, 4), 0.5 * 0.5 * 0.5))
    assert weights[2].eq(0).all() and weights[..., :4].eq(0).all()
    assert strengths.weights(0.0, [0], SQUARE, (4, 4))[0, 0, 0, 3] == 1.0, "a level that is not named is 1"


def test_a_mask_for_each_frame_follows_a_window() -> None:
    masks = torch.arange(5.0)[:, None, None].expand(5, 4, 4)
    weights = StrengthSchedule(mask=masks).weights(0.0, [0, 3, 4, 9], SQUARE, SQUARE)
    assert weights[:, 0, 0, 0].tolist() == [0.0, 3.0, 4.0, 4.0], "the last mask holds for what comes behind it"


def test_a_mask_without_frames_and_masks_that_are_none() -> None:
    mask = torch.rand(8, 8, generator=torch.Generator().manual_seed(0))
    weights = [StrengthSchedule(mask=given).weights(0.0, [0, 1], SQUARE, SQUARE) for given in (mask, mask[None])]
    assert torch.equal(*weights) and weights[0].shape == (2, 1, *SQUARE)
    for shape in [(8,), (2, 1, 8, 8), (0, 8, 8)]:
        with pytest.raises(FirstFrameError, match=f"got shape {re.escape(str(shape))}"):
            StrengthSchedule(mask=torch.ones(shape))


@pytest.mark.parametrize(("latent", "level", "size"), [((16, 16), 2, (4, 4)), ((9, 5), 1, (5, 3)), ((9, 5), 2, (3, 2))])
def test_sizes_in_the_unet(latent: tuple[int, int], level: int, size: tuple[int, int]) -> None:
    assert level_of(latent, size) == level
    assert size_of(latent, size[0] * size[1]) == size


def test_a_feature_map_that_there_is_not() -> None:
    with pytest.raises(FirstFrameError, match="7 places"):
        size_of(SQUARE, 7)
