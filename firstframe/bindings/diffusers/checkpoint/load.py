"""A checkpoint of Stable Diffusion 1.5, whole: UNet, text encoder, autoencoder, with LoRAs merged into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from ....errors import WeightsError
from ....sites import UNetConfig
from ....weights.files import load_state_dict
from ....weights.unet_names import unet_tensors
from ....weights.unet_shapes import read_unet_config
from .autoencoder import Autoencoder, load_autoencoder
from .lora import merge_lora
from .text import TextEncoder, load_text_encoder


class Lora(NamedTuple):
    """A LoRA's file and how strongly it is merged."""

    path: Path
    strength: float = 1.0


@dataclass(frozen=True)
class Checkpoint:
    """The networks of Stable Diffusion 1.5, frozen, in fp32 on the CPU."""

    unet: UNet2DConditionModel
    text_encoder: TextEncoder
    autoencoder: Autoencoder


def load_checkpoint(path: Path, vae: Path | None = None, loras: Sequence[Lora] = ()) -> Checkpoint:
    """Load a single file in LDM's names, as published, whatever its size, and merge LoRAs into it.

    Args:
        path: safetensors or pickle; nothing is downloaded.
        vae: an autoencoder's own file, in place of the checkpoint's.
        loras: of kohya or of diffusers, merged in this order.

    Raises:
        WeightsError: a file cannot be read, or lacks a part; the message names it.
    """
    state = load_state_dict(path)
    try:
        unet, text_encoder = load_unet(state), load_text_encoder(state)
        autoencoder = load_autoencoder(state) if vae is None else None
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
    for lora in loras:
        merge_lora(lora.path, lora.strength, unet, text_encoder.model)
    return Checkpoint(unet, text_encoder, autoencoder or _from_own_file(vae))


def load_unet(state: dict[str, Tensor]) -> UNet2DConditionModel:
    """The UNet among the tensors of a checkpoint, as diffusers' class. Raises WeightsError where there is none."""
    config = read_unet_config(state)
    weights = unet_tensors(state, "diffusers", config)
    with torch.device("meta"):
        unet = UNet2DConditionModel(**unet_arguments(config))
    if missing := unet.state_dict().keys() - weights.keys():
        raise WeightsError(f"{min(missing)} of the UNet is missing; the file is cut off")
    unet.load_state_dict({name: weights[name].float() for name in unet.state_dict()}, assign=True)
    return unet.eval().requires_grad_(False)


def unet_arguments(config: UNetConfig) -> dict[str, object]:
    """What diffusers' class takes for a UNet of these sizes."""
    down = ["CrossAttnDownBlock2D" if attention else "DownBlock2D" for attention in config.attention]
    up = ["CrossAttnUpBlock2D" if attention else "UpBlock2D" for attention in reversed(config.attention)]
    return {
        "sample_size": 64,
        "in_channels": config.in_channels,
        "block_out_channels": config.block_out_channels,
        "layers_per_block": config.layers_per_block,
        "down_block_types": tuple(down),
        "up_block_types": tuple(up),
        "cross_attention_dim": config.cross_attention_dim,
        "attention_head_dim": config.num_heads,  # diffusers reads this as the number of heads
    }


def _from_own_file(vae: Path | None) -> Autoencoder:
    assert vae is not None
    try:
        return load_autoencoder(load_state_dict(vae))
    except WeightsError as error:
        raise WeightsError(f"{vae}: {error}") from error
