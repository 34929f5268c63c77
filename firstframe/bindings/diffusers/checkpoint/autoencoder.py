"""The autoencoder out of a checkpoint or of a file of its own: images to latents and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count, takewhile

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
from torch import Tensor

from ....errors import WeightsError

PREFIX = "first_stage_model."
SCALE = 0.18215
IMAGES_AT_ONCE = 8


@dataclass(frozen=True)
class Autoencoder:
    """Images to latents and back, a few at a time.

    Attributes:
        model: of diffusers.
        scale: the UNet's latents over the autoencoder's.
    """

    model: AutoencoderKL | AutoencoderTiny
    scale: float = SCALE

    @torch.inference_mode()
    def encode(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] to the mean of their latents (B, 4, H/8, W/8), in the UNet's scale."""
        return torch.cat([self._encode(some) for some in images.split(IMAGES_AT_ONCE)])

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, 4, H/8, W/8) in the UNet's scale to images (B, 3, H, W) in [0, 1]."""
        return torch.cat([self._decode(some) for some in latents.split(IMAGES_AT_ONCE)])

    def _encode(self, images: Tensor) -> Tensor:
        encoded = self.model.encode((images * 2 - 1).to(self.model.device, self.model.dtype))
        latents: Tensor = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
        return latents.float() * self.scale

    def _decode(self, latents: Tensor) -> Tensor:
        decoded = self.model.decode((latents / self.scale).to(self.model.device, self.model.dtype))
        images: Tensor = decoded.sample
        return (images.float() / 2 + 0.5).clamp(0, 1)


def load_autoencoder(state: Mapping[str, Tensor]) -> Autoencoder:
    """The autoencoder among the tensors of a checkpoint or of a VAE file, in LDM's names or in diffusers'.

    Raises:
        WeightsError: there is none.
    """
    prefixed = {name.removeprefix(PREFIX): tensor for name, tensor in state.items() if name.startswith(PREFIX)}
    weights = prefixed or dict(state)
    if "encoder.down.0.block.0.conv1.weight" in weights:
        widths, layers = _levels(weights, "encoder.down.{0}.block.{1}.conv1.weight")
        model = _new(widths, layers)
        renamed = convert_ldm_vae_checkpoint(weights, model.config)
    elif "encoder.down_blocks.0.resnets.0.conv1.weight" in weights:
        widths, layers = _levels(weights, "encoder.down_blocks.{0}.resnets.{1}.conv1.weight")
        model, renamed = _new(widths, layers), weights
    else:
        raise WeightsError("there is no autoencoder of Stable Diffusion 1.5 in it; name one as vae")
    model.load_state_dict({name: renamed[name].float() for name in model.state_dict()}, assign=True)
    return Autoencoder(model.eval().requires_grad_(False))


def _levels(weights: Mapping[str, Tensor], name: str) -> tuple[list[int], int]:
    """Width of each level, and layers in one."""
    widths = [
        weights[name.format(level, 0)].shape[0]
        for level in takewhile(lambda level: name.format(level, 0) in weights, count())
    ]
    return widths, sum(1 for _ in takewhile(lambda layer: name.format(0, layer) in weights, count()))


def _new(widths: list[int], layers: int) -> AutoencoderKL:
    with torch.device("meta"):
        return AutoencoderKL(
            block_out_channels=tuple(widths),
            layers_per_block=layers,
            down_block_types=("DownEncoderBlock2D",) * len(widths),
            up_block_types=("UpDecoderBlock2D",) * len(widths),
            norm_num_groups=min(32, widths[0]),
            scaling_factor=SCALE,
        )
