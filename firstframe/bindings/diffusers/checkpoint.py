"""A checkpoint of Stable Diffusion 1.5 or SDXL from one file, in diffusers' and transformers' classes, offline."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from ...errors import FirstFrameError, WeightsError, printable
from ...modules.layers import SIZE_CHANNELS
from ...modules.text import Text
from ...sites import UNetConfig
from ...weights.door import is_finite
from ...weights.files import StateDict, load_state_dict
from ...weights.lora import merge_loras
from ...weights.unet_names import unet_tensors
from ...weights.unet_shape import read_unet_config
from .filling import fill
from .text import TextEncoder, build_text_encoder, encode_prompts, second_text_tensors, text_tensors
from .vae import SD15_SCALE, SDXL_SCALE, Autoencoder, build_vae

V_PREDICTION = "v_pred"
"""A tensor of this name marks a checkpoint that predicts v."""


@dataclass(frozen=True)
class Checkpoint:
    """UNet, autoencoder and text encoders of one file.

    Attributes:
        text_encoders: one, or SDXL's two.
        prediction_type: what the UNet predicts, in diffusers' words: "epsilon" or "v_prediction".
    """

    unet: UNet2DConditionModel
    vae: Autoencoder
    text_encoders: tuple[TextEncoder, ...]
    prediction_type: str = "epsilon"

    @property
    def latent_scale(self) -> float:
        """The UNet's latents over the autoencoder's."""
        scale: float = self.vae.config.scaling_factor
        return scale

    def encode_text(self, prompts: Sequence[str]) -> Text:
        """Prompts as :func:`.text.encode_prompts` encodes them."""
        return encode_prompts(self.text_encoders, prompts)

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
        path: of the file with UNet, text encoders and VAE.
        loras: files of LoRAs for UNet and text encoders with their strengths, merged into weights of ``dtype``.
        vae: a file whose autoencoder takes the place of the checkpoint's.
        dtype: of UNet and text encoders. The autoencoder is kept in fp32, which its decoder needs for large values.

    Raises:
        WeightsError: a file cannot be read, lacks something, or is of another family; the message names it.
    """
    state = load_state_dict(path)
    with _naming(path):
        config = read_unet_config(state)
        tensors = {"unet": unet_tensors(state, "diffusers", config), "text": text_tensors(state)}
        if config.pooled_channels is not None:
            tensors["text_2"] = second_text_tensors(state)
        _check_values(tensors.values())
    with _naming(vae or path):
        scale = SD15_SCALE if config.pooled_channels is None else SDXL_SCALE
        autoencoder = build_vae(load_state_dict(vae) if vae else state, scale)
    prediction = "v_prediction" if V_PREDICTION in state else "epsilon"
    del state
    cast = {network: {name: t.to(dtype) for name, t in own.items()} for network, own in tensors.items()}
    unet, *texts = merge_loras(cast, config, loras or {}).values()
    with _naming(path):
        built, encoders = build_unet(config, unet), tuple(map(build_text_encoder, texts))
    for network in (built, autoencoder.float(), *encoders):
        network.eval().requires_grad_(False)
    return Checkpoint(built, autoencoder, encoders, prediction)


def build_unet(config: UNetConfig, weights: StateDict) -> UNet2DConditionModel:
    """A UNet of Stable Diffusion 1.5's or SDXL's type with ``weights`` in diffusers' names as its own.

    Raises:
        WeightsError: a weight is missing or has another shape.
    """
    return fill(empty_unet(config), weights, "UNet")


def empty_unet(config: UNetConfig) -> UNet2DConditionModel:
    """A UNet of Stable Diffusion 1.5's or SDXL's type on the meta device."""
    kinds = ["CrossAttn" if attention else "" for attention in config.attention]
    with torch.device("meta"):
        return UNet2DConditionModel(
            in_channels=config.in_channels,
            block_out_channels=config.block_out_channels,
            layers_per_block=config.layers_per_block,
            down_block_types=tuple(f"{kind}DownBlock2D" for kind in kinds),
            up_block_types=tuple(f"{kind}UpBlock2D" for kind in reversed(kinds)),
            cross_attention_dim=config.cross_attention_dim,
            attention_head_dim=config.num_heads or _heads_of_levels(config),  # diffusers means the number of heads
            **{} if config.pooled_channels is None else _of_sdxl(config),
        )


def _heads_of_levels(config: UNetConfig) -> tuple[int, ...]:
    assert config.head_channels is not None
    return tuple(max(1, width // config.head_channels) for width in config.block_out_channels)


def _of_sdxl(config: UNetConfig) -> dict[str, Any]:
    return {
        "transformer_layers_per_block": config.depths,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": SIZE_CHANNELS,
        "projection_class_embeddings_input_dim": config.pooled_channels,
    }


def _check_values(networks: Iterable[StateDict]) -> None:
    for name, tensor in chain.from_iterable(network.items() for network in networks):
        if not is_finite(tensor):
            raise WeightsError(f"{printable(name)} has NaN or infinite values, of which a model makes black frames")


@contextmanager
def _naming(path: Path | str) -> Iterator[None]:
    """What is wrong with a file's contents becomes an error that names the file."""
    try:
        yield
    except FirstFrameError as error:
        raise WeightsError(f"{path}: {error}".replace(f"{path}: {path}: ", f"{path}: ")) from error
