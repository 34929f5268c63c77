"""The tiny model's autoencoder: TAESD, the "tiny autoencoder" for Stable Diffusion 1.5 (madebyollin/taesd, MIT).

8 x 8 pixels become one latent of four channels, in Stable Diffusion's own latent space with its scale applied.
"""

from __future__ import annotations

from pathlib import Path

from diffusers import AutoencoderTiny
from safetensors.torch import load_file
from torch import Tensor

from .config import AUTOENCODER

SOURCE = "https://github.com/madebyollin/taesd"
LICENCE = "MIT, Copyright (c) 2023 Ollin Boer Bohan"


def open_autoencoder(file: Path) -> AutoencoderTiny:
    """The autoencoder from its file, with diffusers' names, in fp32."""
    model = AutoencoderTiny(**AUTOENCODER)
    model.load_state_dict(load_file(file))
    return model.eval().requires_grad_(False)


def read_autoencoder(place: Path) -> dict[str, Tensor]:
    """The weights in the autoencoder's file, or in a folder with the two published files of TAESD."""
    return from_taesd(place) if place.is_dir() else load_file(place)


def from_taesd(folder: Path) -> dict[str, Tensor]:
    """The published ``taesd_encoder.safetensors`` and ``taesd_decoder.safetensors`` under diffusers' names.

    The published decoder counts its clamp as layer 0.
    """
    weights = {}
    for half, offset in (("encoder", 0), ("decoder", 1)):
        for key, weight in load_file(folder / f"taesd_{half}.safetensors").items():
            layer, rest = key.split(".", 1)
            weights[f"{half}.layers.{int(layer) - offset}.{rest}"] = weight
    return weights
