"""What is minimised: the error of the predicted noise or velocity of a noised clip."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ..sampling.prior import prior_mean

Prediction = Literal["epsilon", "v_prediction"]
Predict = Callable[[Tensor, Tensor], Tensor]
PRIOR_FROM = 0.75
"""Where in the noise schedule clips may be noised from the prior: sampling starts in the noisiest part."""


class Noised(NamedTuple):
    """A clip with noise.

    Attributes:
        noisy: what the model is shown, (B, C, F, H, W).
        timestep: (B,), from 0.
        target: what it has to predict, (B, C, F, H, W).
        snr: alpha^2 / sigma^2, (B,).
    """

    noisy: Tensor
    timestep: Tensor
    target: Tensor
    snr: Tensor


@dataclass(frozen=True)
class Objective:
    """The loss of a diffusion model over clips. The defaults are the papers': uniform timesteps, squared error.

    Attributes:
        alphas_cumprod: alpha squared of each timestep, (T,), on the device that trains.
        prediction: what the model predicts.
        loss_type: "huber" is squared up to an error of 1, and linear above.
        snr_gamma: of the weights min(SNR, gamma) / SNR (arXiv 2303.09556); None for equal weights.
        noise_offset: standard deviation of what is added to all of a channel's noise.
        prior_share: of the batches, in which clips are noised around the frame similarity prior (arXiv 2312.16693,
            Equation 7), as sampling starts, at the timesteps from ``PRIOR_FROM`` on.
        keep_probability: of that prior.
    """

    alphas_cumprod: Tensor
    prediction: Prediction = "epsilon"
    loss_type: Literal["l2", "l1", "huber"] = "l2"
    snr_gamma: float | None = None
    noise_offset: float = 0.0
    prior_share: float = 0.0
    keep_probability: float = 0.5

    def noised(self, latents: Tensor, generator: torch.Generator) -> Noised:
        """``x_t = alpha x + sigma eps`` for latents (B, C, F, H, W).

        All draws are made on the CPU, so that a seed gives the same ones on every device.
        """
        clips, steps = len(latents), len(self.alphas_cumprod)
        from_prior = torch.rand(1, generator=generator).item() < self.prior_share
        first = int(PRIOR_FROM * steps) if from_prior else 0
        timestep = torch.randint(first, steps, (clips,), generator=generator)
        noise = torch.randn(latents.shape, generator=generator)
        if self.noise_offset:
            noise += self.noise_offset * torch.randn(*latents.shape[:2], 1, 1, 1, generator=generator)
        timestep, noise = (drawn.to(latents.device, non_blocking=True) for drawn in (timestep, noise))
        alpha_squared = self.alphas_cumprod[timestep].view(-1, 1, 1, 1, 1)
        alpha, sigma = alpha_squared.sqrt(), (1 - alpha_squared).sqrt()
        if from_prior:
            # x_t = alpha D(x_1) + sigma eps; seen from x, the noise in it is another one
            similar = prior_mean(latents[:, :, 0], latents.shape[2], self.keep_probability, generator)
            noise = noise + alpha / sigma * (similar - latents)
        target = noise if self.prediction == "epsilon" else alpha * noise - sigma * latents
        return Noised(
            alpha * latents + sigma * noise, timestep, target, (alpha_squared / (1 - alpha_squared)).flatten()
        )

    def __call__(self, predict: Predict, latents: Tensor, generator: torch.Generator, clean_first: bool) -> Tensor:
        """The loss of one batch.

        Args:
            predict: noisy latents (B, C, F, H, W) and timesteps (B,) to the model's prediction.
            latents: x, (B, C, F, H, W).
            generator: of all draws.
            clean_first: frame 0 is shown without noise and left out of the loss (arXiv 2312.16693, Section 3.2).

        Returns:
            A scalar.
        """
        noisy, timestep, target, snr = self.noised(latents, generator)
        if clean_first:
            noisy = torch.cat([latents[:, :, :1], noisy[:, :, 1:]], dim=2)
        error = self._error(predict(noisy, timestep).float(), target)[:, :, int(clean_first) :]
        of_clip = error.mean((1, 2, 3, 4))
        return (of_clip * self._weights(snr)).mean()

    def _error(self, predicted: Tensor, target: Tensor) -> Tensor:
        if self.loss_type == "huber":
            return functional.huber_loss(predicted, target, reduction="none")
        difference = predicted - target
        return difference.abs() if self.loss_type == "l1" else difference.square()

    def _weights(self, snr: Tensor) -> Tensor:
        if self.snr_gamma is None:
            return torch.ones_like(snr)
        return snr.clamp(max=self.snr_gamma) / (snr if self.prediction == "epsilon" else snr + 1)
