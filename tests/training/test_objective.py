"""What is minimised, as equations."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from firstframe.training.objective import PRIOR_FROM, Objective

ALPHAS = torch.linspace(0.999, 0.01, 100)
LATENTS = torch.randn(8, 4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("prior_share", [0.0, 1.0])
def test_the_target_leads_back_to_the_latents(prediction: str, prior_share: float) -> None:
    """x = (x_t - sigma eps) / alpha, and x = alpha x_t - sigma v: from the prior, too."""
    objective = Objective(ALPHAS, prediction, prior_share=prior_share)  # type: ignore[arg-type]
    noisy, timestep, target, snr = objective.noised(LATENTS, seeded())
    alpha = ALPHAS[timestep].sqrt().view(-1, 1, 1, 1, 1)
    sigma = (1 - alpha**2).sqrt()
    found = (noisy - sigma * target) / alpha if prediction == "epsilon" else alpha * noisy - sigma * target
    torch.testing.assert_close(found, LATENTS, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(snr, (alpha**2 / sigma**2).flatten(), rtol=1e-4, atol=0)


def test_noise_from_the_prior_is_around_the_first_frame_and_late() -> None:
    objective = Objective(ALPHAS, prior_share=1.0, keep_probability=1.0)
    noisy, timestep, _, _ = objective.noised(LATENTS, seeded())
    assert timestep.min() >= PRIOR_FROM * len(ALPHAS)
    alpha = ALPHAS[timestep].sqrt().view(-1, 1, 1, 1, 1)
    noise = (noisy - alpha * LATENTS[:, :, :1]) / (1 - alpha**2).sqrt()
    assert abs(noise.std() - 1) < 0.05 and abs(noise.mean()) < 0.05


def test_the_clean_first_frame_is_shown_and_left_out() -> None:
    shown = []

    def predict(noisy: Tensor, timestep: Tensor) -> Tensor:
        shown.append(noisy)
        return torch.zeros_like(noisy)

    objective = Objective(ALPHAS)
    loud = LATENTS.clone()
    loud[:, :, 0] = 1000.0
    with_clean = objective(predict, loud, seeded(), clean_first=True)
    assert torch.equal(shown[0][:, :, 0], loud[:, :, 0]) and with_clean < 1.2
    without = objective(predict, LATENTS, seeded(), clean_first=False)
    assert not torch.equal(shown[1][:, :, 0], LATENTS[:, :, 0])
    assert abs(without.item() - 1) < 0.1


@pytest.mark.parametrize(("prediction", "offset"), [("epsilon", 0), ("v_prediction", 1)])
def test_min_snr_weights_are_the_paper_s(prediction: str, offset: int) -> None:
    """min(SNR, gamma) / SNR for eps, and / (SNR + 1) for v, which is the same weight of the clean latents."""
    objective = Objective(ALPHAS, prediction, snr_gamma=5.0)  # type: ignore[arg-type]
    one = LATENTS[:1]
    _, _, target, snr = objective.noised(one, seeded())
    found = objective(lambda noisy, _: torch.zeros_like(noisy), one, seeded(), clean_first=False)
    torch.testing.assert_close(found, target.square().mean() * min(snr.item(), 5.0) / (snr.item() + offset))


def test_losses_and_noise_offset() -> None:
    objective = Objective(ALPHAS)
    _, _, target, _ = objective.noised(LATENTS, seeded())

    def loss(**changes: object) -> float:
        changed = replace(objective, **changes)  # type: ignore[arg-type]
        return changed(lambda noisy, _: torch.zeros_like(noisy), LATENTS, seeded(), clean_first=False).item()

    assert loss(loss_type="l1") == pytest.approx(target.abs().mean().item())
    size = target.abs()
    assert loss(loss_type="huber") == pytest.approx(torch.where(size < 1, size**2 / 2, size - 0.5).mean().item())
    shifted = replace(objective, noise_offset=10.0).noised(LATENTS, seeded()).target
    assert shifted.mean((2, 3, 4)).std() > 5 > target.mean((2, 3, 4)).std()
