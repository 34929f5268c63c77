"""The loss of a diffusion model that predicts v, as an equation, and the draws that go into it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

SNR_RANGE = (1.0, 5.0)


class Draw(NamedTuple):
    """What is random in one evaluation of the loss.

    Attributes:
        noise: (B, C, F, H, W).
        timestep: (B,), from 0.
        clean: which frames are shown without noise and left out of the loss, (B, F) bool.
    """

    noise: Tensor
    timestep: Tensor
    clean: Tensor


def draw(latents: Tensor, num_timesteps: int, clean_share: float) -> Draw:
    """Draws for latents (B, C, F, H, W), on their device, from PyTorch's own generator.

    Timesteps are drawn in proportion to their number: where things move is settled at high ones. Frame 0 is clean
    in ``clean_share`` of the clips.
    """
    clips, _, frames, _, _ = latents.shape
    timestep = (torch.rand(clips, device=latents.device).sqrt() * num_timesteps).long()
    noise = torch.randn_like(latents)
    clean = torch.rand(clips, 1, device=latents.device) < clean_share
    first = torch.arange(frames, device=latents.device) == 0
    return Draw(noise, timestep, clean & first)


def velocity_loss(
    predict: Callable[[Tensor, Tensor], Tensor], latents: Tensor, weights: Tensor, draw: Draw, alphas_cumprod: Tensor
) -> Tensor:
    """Squared error of v = alpha eps - sigma x (arXiv 2202.00512), averaged with weights over places and clips.

    A clip's weight makes it the error of the clean latents times their signal-to-noise ratio in [1, 5]. The upper end
    is min-SNR's (arXiv 2303.09556), the lower one that of truncated SNR (arXiv 2202.00512, section 4): without it
    little is learned of the noisiest steps, which settle a clip's colours for all its frames.

    Args:
        predict: noisy latents (B, C, F, H, W) and timesteps (B,) to v.
        latents: x, (B, C, F, H, W).
        weights: of each place, (B, H, W).
        draw: from `draw`.
        alphas_cumprod: alpha squared of each timestep, (T,), on the device of the latents.

    Returns:
        A scalar.
    """
    alpha_squared = alphas_cumprod[draw.timestep].view(-1, 1, 1, 1, 1)
    alpha, sigma = alpha_squared.sqrt(), (1 - alpha_squared).sqrt()
    noisy = torch.where(draw.clean[:, None, :, None, None], latents, alpha * latents + sigma * draw.noise)
    velocity = alpha * draw.noise - sigma * latents
    error = (predict(noisy, draw.timestep).float() - velocity).square().mean(1)  # B F H W
    counts = weights[:, None] * ~draw.clean[:, :, None, None]  # B F H W
    of_clip = (error * counts).sum((1, 2, 3)) / counts.sum((1, 2, 3))
    snr = (alpha_squared / (1 - alpha_squared)).flatten()
    return (of_clip * snr.clamp(*SNR_RANGE) / (snr + 1)).mean()
