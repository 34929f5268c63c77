"""Dual guidance as a formula."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from firstframe.errors import FirstFrameError
from firstframe.sampling.guidance import Branch, DualGuidance, LowPass, Scales, along_direction, rescaled, softened

SHAPE = (2, 4, 3, 5, 5)


@pytest.fixture
def predictions(generator: torch.Generator) -> dict[Branch, Tensor]:
    branches: tuple[Branch, ...] = ("uncond", "image", "full")
    return {branch: torch.randn(SHAPE, generator=generator, dtype=torch.float64) for branch in branches}


@pytest.mark.parametrize(("image_scale", "text_scale"), [(1.5, 7.5), (3.0, 0.0), (0.5, 1.0), (2.0, 2.0), (1.0, 4.0)])
def test_the_usual_form(predictions: dict[Branch, Tensor], image_scale: float, text_scale: float) -> None:
    none, image, full = predictions["uncond"], predictions["image"], predictions["full"]
    expected = none + image_scale * (image - none) + text_scale * (full - image)
    torch.testing.assert_close(Scales(image_scale, text_scale).combine(predictions), expected)


def test_equal_scales_are_plain_guidance_and_need_no_image_branch(predictions: dict[Branch, Tensor]) -> None:
    scales = Scales(6.0, 6.0)
    assert scales.branches == ("uncond", "full")
    none, full = predictions["uncond"], predictions["full"]
    torch.testing.assert_close(scales.combine({"uncond": none, "full": full}), none + 6.0 * (full - none))


@pytest.mark.parametrize(
    ("image", "text", "branches"),
    [
        (1.0, 1.0, ("full",)),
        (1.0, 5.0, ("image", "full")),
        (1.0, 0.0, ("image",)),
        (0.0, 0.0, ("uncond",)),
        (3.0, 0.0, ("uncond", "image")),
        (3.0, 5.0, ("uncond", "image", "full")),
        (3.0, 1.0, ("uncond", "image", "full")),
    ],
)
def test_what_has_no_weight_is_not_computed(
    predictions: dict[Branch, Tensor], image: float, text: float, branches: tuple[Branch, ...]
) -> None:
    scales = Scales(image, text)
    assert scales.branches == branches
    partial = {branch: predictions[branch] for branch in branches}
    torch.testing.assert_close(scales.combine(partial), scales.combine(predictions))


def test_one_branch_passes_bit_for_bit(predictions: dict[Branch, Tensor]) -> None:
    assert torch.equal(Scales(1.0, 1.0).combine(predictions), predictions["full"])


def test_outside_its_interval_a_scale_is_one() -> None:
    guidance = DualGuidance(3.0, 5.0, image_interval=(0.0, 0.5), text_interval=(0.25, 0.75))
    assert guidance.at(0.0) == Scales(3.0, 1.0)
    assert guidance.at(0.3) == Scales(3.0, 5.0)
    assert guidance.at(0.6) == Scales(1.0, 5.0)
    assert guidance.at(0.9) == Scales(1.0, 1.0)
    assert guidance.at(0.9).branches == ("full",)


def test_refinements_at_their_neutral_values_change_nothing(predictions: dict[Branch, Tensor]) -> None:
    plain = Scales(2.0, 6.0).combine(predictions)
    torch.testing.assert_close(Scales(2.0, 6.0, parallel=1.0, rescale=1e-12).combine(predictions), plain)


def test_no_guidance_along_the_prediction(predictions: dict[Branch, Tensor]) -> None:
    guided = Scales(2.0, 6.0, parallel=0.0).combine(predictions)
    added = guided - predictions["full"]
    dims = (1, 2, 3, 4)
    assert (added * predictions["full"]).sum(dims).abs().max() < 1e-9
    torch.testing.assert_close(
        along_direction(guided, predictions["full"]), predictions["full"], msg="the prediction itself stays"
    )


def test_rescaling_brings_the_contrast_back(predictions: dict[Branch, Tensor]) -> None:
    guided = Scales(2.0, 6.0, rescale=1.0).combine(predictions)
    dims = (1, 2, 3, 4)
    torch.testing.assert_close(guided.std(dims), predictions["full"].std(dims))
    half = rescaled(4.0 * guided, guided, 0.5)
    torch.testing.assert_close(half.std(dims), 2.5 * guided.std(dims))


def test_refined_guidance_needs_the_full_prediction() -> None:
    assert Scales(2.0, 2.0, parallel=0.0).branches == ("uncond", "image", "full")
    assert Scales(1.0, 2.0, rescale=0.7).branches == ("image", "full")
    assert Scales(1.0, 1.0, rescale=0.7).branches == ("full",)


@pytest.mark.parametrize(
    "wrong",
    [{"image_interval": (0.5, 0.2)}, {"text_interval": (0.0, 1.5)}, {"parallel": 2.0}, {"rescale": -0.1}],
)
def test_values_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(FirstFrameError, match="to"):
        DualGuidance(**wrong)  # type: ignore[arg-type]


def test_softened_is_smaller_and_back(generator: torch.Generator) -> None:
    latent = torch.randn(1, 4, 3, 10, 20, generator=generator)
    small = torch.nn.functional.interpolate(latent[:, :, 1], (4, 8), mode="bilinear", antialias=True)
    back = torch.nn.functional.interpolate(small, (10, 20), mode="bilinear", antialias=True)
    soft = softened(latent, 0.4)
    assert soft.shape == latent.shape
    assert torch.equal(soft[:, :, 1], back)
    assert torch.equal(soft[:, :, 1], softened(latent[:, :, 1], 0.4))


def test_softened_takes_away_detail_and_nothing_else(generator: torch.Generator) -> None:
    latent = torch.randn(1, 4, 16, 16, generator=generator)
    torch.testing.assert_close(softened(latent, 1.0), latent)
    torch.testing.assert_close(softened(torch.ones_like(latent), 0.3), torch.ones_like(latent))
    spreads = [softened(latent, detail).std().item() for detail in (1.0, 0.5, 0.25)]
    assert spreads == sorted(spreads, reverse=True)


def test_the_soft_image_is_seen_early() -> None:
    low_pass = LowPass(0.4, 0.2)
    assert [low_pass.holds(progress) for progress in (0.0, 0.2, 0.21, 1.0)] == [True, True, False, False]
    assert LowPass().is_neutral
    assert not LowPass(1.0, 1.0).holds(0.0)


@pytest.mark.parametrize("values", [(0.0, 0.2), (1.1, 0.2), (0.4, -0.1), (0.4, 1.1)])
def test_a_low_pass_out_of_its_range_is_refused(values: tuple[float, float]) -> None:
    with pytest.raises(FirstFrameError):
        LowPass(*values)
