from __future__ import annotations

import pytest
import torch
from kornia.filters import gaussian_blur2d

from firstframe.errors import FirstFrameError, ImageError, ModelMismatchError
from firstframe.sampling.prior import (
    MOTION,
    degrade,
    draw_mask,
    frame_similarity_prior,
    mask_generator,
    prior_mean,
    scaled_blur,
    similar_clip,
)


@pytest.fixture
def reference(generator: torch.Generator) -> torch.Tensor:
    return torch.randn(1, 4, 16, 16, generator=generator)


def test_frame_zero_is_the_reference(reference: torch.Tensor) -> None:
    frames = prior_mean(reference, 5, 0.3, mask_generator(1))
    assert frames.shape == (1, 4, 5, 16, 16)
    assert torch.equal(frames[:, :, 0], reference)
    assert not torch.equal(frames[:, :, 1], frames[:, :, 2])


def test_keep_probability_one_and_zero(reference: torch.Tensor) -> None:
    kept = prior_mean(reference, 3, 1.0, mask_generator(1))
    assert torch.equal(kept, reference.unsqueeze(2).expand_as(kept))
    blurred = prior_mean(reference, 3, 0.0, mask_generator(1))
    assert torch.equal(blurred[:, :, 2], gaussian_blur2d(reference, (9, 9), (18.0, 18.0)))


@pytest.mark.parametrize("keep_probability", [0.1, 0.5, 0.9])
def test_mask_keeps_with_that_probability(keep_probability: float) -> None:
    mask = draw_mask((100_000,), keep_probability, mask_generator(3))
    assert mask.float().mean().item() == pytest.approx(keep_probability, abs=0.01)


def test_same_seed_same_frames(reference: torch.Tensor) -> None:
    first, again = (prior_mean(reference, 4, 0.5, mask_generator(7)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, prior_mean(reference, 4, 0.5, mask_generator(8)))


def test_mask_and_noise_of_one_seed_are_independent() -> None:
    shape = (100_000,)
    uniform = torch.rand(shape, generator=mask_generator(11))
    same_stream = torch.rand(shape, generator=torch.Generator("cpu").manual_seed(11))
    assert not torch.equal(uniform, same_stream)
    noise = torch.randn(shape, generator=torch.Generator("cpu").manual_seed(11))
    assert abs(torch.corrcoef(torch.stack([uniform, noise]))[0, 1]) < 0.02


def test_low_pass_blurs_only_where_the_mask_is_off(reference: torch.Tensor) -> None:
    frames = reference.unsqueeze(2).repeat(1, 1, 3, 1, 1)
    mask = torch.ones_like(frames, dtype=torch.bool)
    mask[:, :, 1:, :8] = False
    result = degrade(frames, mask)
    assert torch.equal(result[:, :, :, 8:], frames[:, :, :, 8:])
    assert not torch.equal(result[:, :, 1, :8], frames[:, :, 1, :8])
    assert torch.equal(result[:, :, 0], frames[:, :, 0])


def noise_of(seed: int) -> torch.Tensor:
    return torch.randn(1, 4, 8, 16, 16, generator=torch.Generator().manual_seed(seed))


def test_start_has_the_stated_mean_and_deviation(reference: torch.Tensor) -> None:
    draws = torch.cat(
        [
            frame_similarity_prior(reference, noise_of(seed), 0.6, 0.8, 0.5, mask_generator(seed))[:, :, 1:]
            - 0.6 * prior_mean(reference, 8, 0.5, mask_generator(seed))[:, :, 1:]
            for seed in range(4)
        ]
    )
    assert draws.mean().item() == pytest.approx(0.0, abs=0.02)
    assert draws.std().item() == pytest.approx(0.8, abs=0.02)


def test_matches_the_official_degradation(expected: dict[str, torch.Tensor]) -> None:
    frames = expected["B.first_frame_latent"].repeat(1, 1, 6, 1, 1)
    degraded = degrade(frames, expected["B.mask_uniform"] >= 0.5)
    assert (degraded - expected["B.degraded"]).norm() / expected["B.degraded"].norm() < 1e-6


def test_image_too_small_for_the_blur(generator: torch.Generator) -> None:
    small = torch.zeros(1, 4, 4, 8)
    with pytest.raises(ImageError, match="8 x 4 is too small to blur with a kernel of 9"):
        prior_mean(small, 3, 0.5, generator)
    assert prior_mean(small, 3, 0.5, generator, blur_kernel=7).shape == (1, 4, 3, 4, 8)


def test_even_blur_kernel(reference: torch.Tensor, generator: torch.Generator) -> None:
    with pytest.raises(FirstFrameError, match=r"must be odd.*got 8"):
        prior_mean(reference, 3, 0.5, generator, blur_kernel=8)


def test_a_clip_of_one_image_is_its_similar_frames(reference: torch.Tensor) -> None:
    clip = torch.zeros(2, 4, 5, 16, 16)
    found = similar_clip(clip, reference.unsqueeze(2), 0.5, mask_generator(1))
    assert torch.equal(found, prior_mean(reference, 5, 0.5, mask_generator(1)).expand_as(clip))


def test_a_still_clip_stands_for_itself(reference: torch.Tensor) -> None:
    still = torch.stack([reference, 2 * reference, 3 * reference], dim=2)
    assert torch.equal(similar_clip(torch.zeros(1, 4, 3, 16, 16), still, 1.0, mask_generator(1)), still)
    shorter = similar_clip(torch.zeros(1, 4, 2, 16, 16), still, 1.0, mask_generator(1))
    assert torch.equal(shorter, torch.stack([reference, reference], dim=2))


@pytest.mark.parametrize(
    ("image", "error"),
    [
        (torch.ones(1, 8, 1, 16, 16), ModelMismatchError),
        (torch.ones(1, 4, 1, 16, 8), ImageError),
        (torch.zeros(1, 4, 1, 16, 16), ImageError),
    ],
)
def test_an_image_for_another_clip_is_refused(image: torch.Tensor, error: type[FirstFrameError]) -> None:
    with pytest.raises(error):
        similar_clip(torch.zeros(1, 4, 3, 16, 16), image, 0.5, mask_generator(1))


def test_amounts_of_motion_have_a_name_each() -> None:
    """Every one is another pair, later ones start from no less noise."""
    assert list(MOTION) == ["subtle", "balanced", "lively"]
    assert len(set(MOTION.values())) == 3
    starts = [knobs.start_time for knobs in MOTION.values()]
    assert starts == sorted(starts)


@pytest.mark.parametrize(
    ("side", "blur"),
    [(128, (17, 36.0)), (96, (13, 27.0)), (64, (9, 18.0)), (32, (5, 9.0)), (16, (3, 4.5)), (8, (3, 2.25))],
)
def test_the_blur_follows_the_size_of_the_latent(side: int, blur: tuple[int, float]) -> None:
    assert scaled_blur(9, 18.0, side, 2 * side) == scaled_blur(9, 18.0, 2 * side, side) == blur


def test_a_scaled_blur_leaves_as_much_of_a_small_image() -> None:
    """On smooth images of the same content, 16 and 64 latent pixels wide; unscaled, the small one loses far more."""

    def kept(side: int, kernel: int, sigma: float) -> float:
        line = torch.linspace(0, 3 * torch.pi, side)
        image = (line.sin()[:, None] * line.cos()).expand(1, 1, 2, side, side)
        blurred = degrade(image, torch.zeros(image.shape, dtype=torch.bool), kernel, sigma)
        return (blurred[:, :, 1].var() / image.var()).item()

    whole = kept(64, 9, 18.0)
    assert kept(16, *scaled_blur(9, 18.0, 16, 16)) == pytest.approx(whole, abs=0.15)
    assert kept(16, 9, 18.0) < whole - 0.3
