"""A checkpoint of the Stable Diffusion 1.5 type from one file, in diffusers' and transformers' classes, offline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import lcm
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel

from ...errors import FirstFrameError, WeightsError, printable
from ...sites import UNetConfig
from ...weights.door import is_finite
from ...weights.files import StateDict, load_state_dict
from ...weights.lora import merge_loras
from ...weights.unet_names import unet_tensors
from ...weights.unet_shape import read_unet_config
from .clip_vocabulary import tokenize
from .filling import fill
from .text import build_text_encoder, text_tensors
from .vae import Autoencoder, build_vae

V_PREDICTION = "v_pred"
"""A tensor of this name marks a checkpoint that predicts v."""


@dataclass(frozen=True)
class Checkpoint:
    """UNet, autoencoder and text encoder of one file.

    Attributes:
        prediction_type: what the UNet predicts, in diffusers' words: "epsilon" or "v_prediction".
    """

    unet: UNet2DConditionModel
    vae: Autoencoder
    text_encoder: CLIPTextModel
    prediction_type: str = "epsilon"

    @property
    def latent_scale(self) -> float:
        """The UNet's latents over the autoencoder's."""
        scale: float = self.vae.config.scaling_factor
        return scale

    @torch.no_grad()
    def encode_text(self, prompts: list[str]) -> Tensor:
        """Prompts to text states (B, N, D); N is 77 where no prompt has more than 75 tokens.

        A longer prompt has 77 for every 75 tokens. Shorter ones beside it are repeated, which changes nothing.
        """
        each = [self._states(prompt) for prompt in prompts]
        length = lcm(*(states.shape[1] for states in each))
        return torch.cat([states.repeat(1, length // states.shape[1], 1) for states in each])

    def _states(self, prompt: str) -> Tensor:
        tokens = tokenize(prompt).to(self.text_encoder.device)
        states: Tensor = self.text_encoder(tokens).last_hidden_state
        return states.flatten(0, 1)[None]

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1], H and W multiples of 8, to the autoencoder's latents (B, 4, H/8, W/8)."""
        encoded = self.vae.encode(images.to(self.vae.device, self.vae.dtype) * 2 - 1)
        latents: Tensor = encoded.latents if "latents" in encoded else encoded.latent_dist.mode()
        return latents

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """The autoencoder's latents (B, 4, H/8, W/8) to images (B, 3, H, W) in [0, 1], one after another."""
        latents = latents.to(self.vae.device, self.vae.dtype)
        images = torch.cat([self.vae.decode(one).sample for one in latents.chunk(len(latents))])
        return (images.float() / 2 + 0.5).clamp(0, 1)


def load_checkpoint(
    path: Path | str,
    *,
    loras: Mapping[Path, float] | None = None,
    vae: Path | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Checkpoint:
    """Load a checkpoint in LDM's or diffusers' names, a safetensors file or a pickle, on the CPU, for inference.

    Args:
        path: of the file with UNet, text encoder and VAE.
        loras: files of LoRAs for UNet and text encoder with their strengths, merged into weights of ``dtype``.
        vae: a file whose autoencoder takes the place of the checkpoint's.
        dtype: of UNet and text encoder. The autoencoder is kept in fp32, which its decoder needs for large values.

    Raises:
        WeightsError: a file cannot be read, lacks something, or is of another family; the message names it.
    """
    state = load_state_dict(path)
    with _naming(path):
        config = read_unet_config(state)
        unet, text = unet_tensors(state, "diffusers", config), text_tensors(state)
        _check_values(unet | text)
    with _naming(vae or path):
        autoencoder = build_vae(load_state_dict(vae) if vae else state)
    prediction = "v_prediction" if V_PREDICTION in state else "epsilon"
    del state
    unet, text = ({name: t.to(dtype) for name, t in tensors.items()} for tensors in (unet, text))
    unet, text = merge_loras(unet, text, config, loras or {})
    with _naming(path):
        networks = (build_unet(config, unet), autoencoder.float(), build_text_encoder(text))
    for network in networks:
        network.eval().requires_grad_(False)
    return Checkpoint(*networks, prediction)


def build_unet(config: UNetConfig, weights: StateDict) -> UNet2DConditionModel:
    """A UNet of the Stable Diffusion 1.5 type with ``weights`` in diffusers' names as its own.

    Raises:
        WeightsError: a weight is missing or has another shape.
    """
    kinds = ["CrossAttn" if attention else "" for attention in config.attention]
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            in_channels=config.in_channels,
            block_out_channels=config.block_out_channels,
            layers_per_block=config.layers_per_block,
            down_block_types=tuple(f"{kind}DownBlock2D" for kind in kinds),
            up_block_types=tuple(f"{kind}UpBlock2D" for kind in reversed(kinds)),
            cross_attention_dim=config.cross_attention_dim,
            attention_head_dim=config.num_heads,  # diffusers reads this as the number of heads
        )
    return fill(unet, weights, "UNet")


def _check_values(tensors: StateDict) -> None:
    for name, tensor in tensors.items():
        if not is_finite(tensor):
            raise WeightsError(f"{printable(name)} has NaN or infinite values, of which a model makes black frames")


@contextmanager
def _naming(path: Path | str) -> Iterator[None]:
    """What is wrong with a file's contents becomes an error that names the file."""
    try:
        yield
    except FirstFrameError as error:
        raise WeightsError(f"{path}: {error}".replace(f"{path}: {path}: ", f"{path}: ")) from error
