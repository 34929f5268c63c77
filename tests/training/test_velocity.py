"""The loss as an equation, and the draws that go into it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from firstframe.training.velocity import draw, velocity_loss

ALPHAS = torch.linspace(0.999, 0.01, 1000)


class Spy:
    """Predicts nothing and remembers what it was shown."""

    def __call__(self, noisy: Tensor, timestep: Tensor) -> Tensor:
        self.noisy, self.timestep = noisy, timestep
        return torch.zeros_like(noisy)


def loss_of(predict, latents: Tensor, clean_share: float = 0.0, weights: Tensor | None = None) -> Tensor:
    clips, _, _, height, width = latents.shape
    weights = torch.ones(clips, height, width) if weights is None else weights
    return velocity_loss(predict, latents, weights, draw(latents, len(ALPHAS), clean_share), ALPHAS)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def test_draws_follow_from_the_seed() -> None:
    latents = torch.zeros(64, 4, 3, 2, 2)
    first = draw(latents, 1000, 0.5)
    torch.manual_seed(0)
    assert all(torch.equal(a, b) for a, b in zip(first, draw(latents, 1000, 0.5), strict=True))
    assert first.timestep.min() >= 0 and 900 < first.timestep.max() < 1000 and first.timestep.float().mean() > 600
    assert not first.clean[:, 1:].any() and 16 < first.clean[:, 0].sum() < 48


def test_clean_first_frame_is_shown_and_left_out_of_the_loss() -> None:
    spy, latents = Spy(), torch.randn(2, 4, 4, 8, 8)
    latents[:, :, 0] *= 100  # its velocity would be the whole loss
    assert loss_of(spy, latents, clean_share=1.0) < 2
    assert torch.equal(spy.noisy[:, :, 0], latents[:, :, 0])
    assert not torch.isclose(spy.noisy[:, :, 1:], latents[:, :, 1:]).all(dim=(1, 3, 4)).any()


def test_noise_is_added_to_all_other_clips() -> None:
    spy, latents = Spy(), torch.randn(64, 4, 2, 4, 4)
    loss_of(spy, latents, clean_share=0.5)
    clean = (spy.noisy[:, :, 0] == latents[:, :, 0]).all((1, 2, 3))
    assert 16 < clean.sum() < 48


def test_places_with_more_weight_count_more() -> None:
    """An error of power 1 on the left, where the weight is, and of power 0 elsewhere."""
    latents, weights = torch.zeros(4, 4, 2, 8, 8), torch.ones(4, 8, 8)
    weights[:, :, :2] = 6.0

    def wrong_on_the_left(noisy: Tensor, timestep: Tensor) -> Tensor:
        snr = (ALPHAS / (1 - ALPHAS))[timestep].view(-1, 1, 1, 1, 1)
        error = torch.where(weights == 6.0, 1.0, 0.0)[:, None, None] * ((snr + 1) / snr.clamp(1, 5)).sqrt()
        return noisy * snr.sqrt() + error

    assert loss_of(wrong_on_the_left, latents, weights=weights).item() == pytest.approx(12 / (12 + 6), rel=1e-3)


def test_loss_of_silence_is_the_weighted_power_of_the_velocity() -> None:
    """Latents and noise have power 1, so v has too; the weight is the SNR within 1 to 5 over SNR + 1."""
    spy = Spy()
    value = loss_of(spy, torch.randn(8, 4, 2, 32, 32))
    snr = (ALPHAS / (1 - ALPHAS))[spy.timestep]
    assert value.item() == pytest.approx((snr.clamp(1, 5) / (snr + 1)).mean().item(), rel=0.02)


def test_the_right_velocity_has_no_loss() -> None:
    """v = alpha eps - sigma x; with x = 0 the noisy latents are sigma eps."""

    def right(noisy: Tensor, timestep: Tensor) -> Tensor:
        return noisy * (ALPHAS / (1 - ALPHAS))[timestep].sqrt().view(-1, 1, 1, 1, 1)

    assert loss_of(right, torch.zeros(4, 4, 2, 8, 8)) < 1e-6
