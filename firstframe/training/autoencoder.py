"""Training of the tiny autoencoder: eight pixels to one latent, four channels, small KL term."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from kornia.filters import spatial_gradient
from kornia.losses import ssim_loss
from torch import Tensor, nn

KL_WEIGHT = 1e-5
SSIM_WEIGHT = 0.3
EDGE_WEIGHT = 0.5


def autoencoder_loss(model: nn.Module, pixels: Tensor) -> Tensor:
    """Absolute error of pixels and of edges, structural dissimilarity, and the KL term.

    Args:
        model: an AutoencoderKL.
        pixels: (B, 3, H, W) in [-1, 1].
    """
    posterior = model.encode(pixels).latent_dist
    decoded = model.decode(posterior.sample()).sample.float()
    error = (decoded - pixels).abs().mean()
    edges = (spatial_gradient(decoded) - spatial_gradient(pixels)).abs().mean()
    similarity = ssim_loss(decoded / 2 + 0.5, pixels / 2 + 0.5, window_size=7)
    return error + EDGE_WEIGHT * edges + SSIM_WEIGHT * similarity + KL_WEIGHT * posterior.kl().mean()


@torch.no_grad()
def unit_variance_(model: AutoencoderKL, pixels: Tensor) -> None:
    """Fold a factor into the two 1x1 convolutions so that scaled latents of ``pixels`` have unit variance."""
    factor = 1 / (model.encode(pixels).latent_dist.mean.std() * model.config.scaling_factor)
    mean, logvar = model.quant_conv.weight.chunk(2), model.quant_conv.bias.chunk(2)
    mean[0].mul_(factor)
    logvar[0].mul_(factor)
    logvar[1].add_(2 * factor.log())
    model.post_quant_conv.weight.div_(factor)
