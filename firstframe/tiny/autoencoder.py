"""Training of the tiny autoencoder: 8 x 8 pixels to one latent of four channels.

Its architecture is that of the "tiny autoencoder" for Stable Diffusion (TAESD), without normalisation layers.
A KL autoencoder of the usual build was tried first: with 64 channels its 32 norm groups hold two channels
each, which takes the colour out of the picture, and after 2,500 steps it still drew in grey.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny
from kornia.filters import spatial_gradient
from kornia.losses import ssim_loss
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from .config import AUTOENCODER

SSIM_WEIGHT = 0.1
EDGE_WEIGHT = 0.5
MOMENT_WEIGHT = 0.05
LATENT_NOISE = 0.05
SCALES = (1, 4, 8)


def autoencoder_loss(model: Any, pixels: Tensor) -> Tensor:
    """Absolute error at three scales and of edges, structural dissimilarity, and latents kept at unit variance.

    The latents get a little noise before they are decoded, so that near latents mean near pictures.

    Args:
        model: an AutoencoderTiny.
        pixels: (B, 3, H, W) in [-1, 1].
    """
    latents = model.encoder(pixels)
    decoded = model.decoder(latents + LATENT_NOISE * torch.randn_like(latents)).float()
    difference = decoded - pixels
    error = torch.stack([functional.avg_pool2d(difference, scale).abs().mean() for scale in SCALES]).sum()
    edges = spatial_gradient(difference).abs().mean()
    similarity: Tensor = ssim_loss(decoded / 2 + 0.5, pixels / 2 + 0.5, window_size=7)
    return error + EDGE_WEIGHT * edges + SSIM_WEIGHT * similarity + MOMENT_WEIGHT * _moments(latents.float())


@torch.no_grad()
def start_from_thumbnail(model: AutoencoderTiny) -> None:
    """Initialise so that the untrained model already keeps a blurred thumbnail, colours included.

    The first three channels carry red, green and blue through every convolution between the blocks; the
    latents are four times their distance from grey. Without it, colour is learned long after brightness.
    """
    binomial = torch.tensor([1.0, 2.0, 1.0]).outer(torch.tensor([1.0, 2.0, 1.0])) / 16
    centre = torch.zeros(3, 3)
    centre[1, 1] = 1
    *inner, last = (layer for layer in model.encoder.layers if isinstance(layer, nn.Conv2d))
    for conv in inner:
        _carry_colour(conv, centre if conv.stride == (1, 1) else binomial)
    _carry_colour(last, 4 * centre, bias=-2.0)
    first, *inner = (layer for layer in model.decoder.layers if isinstance(layer, nn.Conv2d))
    _carry_colour(first, centre / 4, bias=0.5)
    for conv in inner:
        _carry_colour(conv, centre)


def _carry_colour(conv: nn.Conv2d, kernel: Tensor, bias: float = 0.0) -> None:
    conv.weight[:3] = 0
    for channel in range(3):
        conv.weight[channel, channel] = kernel
    if conv.bias is not None:
        conv.bias[:3] = bias


def open_autoencoder(file: Path) -> AutoencoderTiny:
    """The trained autoencoder."""
    model = AutoencoderTiny(**AUTOENCODER)
    model.load_state_dict(load_file(file))
    return model


def _moments(latents: Tensor) -> Tensor:
    """How far each channel is from mean 0 and deviation 1."""
    deviation, mean = torch.std_mean(latents, (0, 2, 3))
    return mean.square().mean() + (deviation - 1).square().mean()
