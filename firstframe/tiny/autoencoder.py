"""The tiny autoencoder: 8 x 8 pixels to one latent of four channels.

Its architecture is that of the "tiny autoencoder" for Stable Diffusion (TAESD), without normalisation layers.
A KL autoencoder of the usual build was tried first: with 64 channels its 32 norm groups hold two channels
each, which takes the colour out of the image, and after 2,500 steps it still drew in grey.
"""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from safetensors.torch import load_file
from torch import Tensor, nn

from .config import AUTOENCODER


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
