"""Checkpoints of the Stable Diffusion 1.5 type that are a thousand times smaller, in the published layouts."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from synthetic import AUTOENCODER_TO_LDM, renamed, with_convolutions
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from firstframe.sites import UNetConfig
from firstframe.weights.unet_names import unet_tensors

SMALL = UNetConfig((32, 64), layers_per_block=1, attention=(True, False), num_heads=8, cross_attention_dim=64)
UNET: dict[str, Any] = {
    "block_out_channels": SMALL.block_out_channels,
    "layers_per_block": SMALL.layers_per_block,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": SMALL.cross_attention_dim,
    "attention_head_dim": SMALL.num_heads,
}
AUTOENCODER: dict[str, Any] = {
    "block_out_channels": (32, 32, 32, 32),
    "layers_per_block": 1,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}
TEXT = CLIPTextConfig(
    vocab_size=49408, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=1
)


VISION = CLIPVisionConfig(
    hidden_size=64,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=16,
    image_size=28,
    patch_size=14,
    projection_dim=16,
    hidden_act="quick_gelu",
)


def small_vision() -> CLIPVisionModelWithProjection:
    """CLIP's image encoder with its projection, with random weights."""
    torch.manual_seed(0)
    return CLIPVisionModelWithProjection(VISION).eval().requires_grad_(False)


def small_networks(seed: int = 0) -> tuple[UNet2DConditionModel, AutoencoderKL, CLIPTextModel]:
    """UNet, autoencoder and text encoder with random weights."""
    torch.manual_seed(seed)
    networks: tuple[nn.Module, ...] = (UNet2DConditionModel(**UNET), AutoencoderKL(**AUTOENCODER), CLIPTextModel(TEXT))
    for network in networks:
        network.eval().requires_grad_(False)
    return networks  # type: ignore[return-value]


def ldm_checkpoint(networks: tuple[UNet2DConditionModel, AutoencoderKL, CLIPTextModel]) -> dict[str, Tensor]:
    """Their tensors under the names of the published single files, with what training left in those."""
    unet, vae, text = (network.state_dict() for network in networks)
    text = {f"text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in text.items()}
    parts = {
        "": unet_tensors(unet, "host", SMALL) | {"betas": torch.zeros(1000)},
        "first_stage_model.": with_convolutions(renamed(vae, AUTOENCODER_TO_LDM)),
        "cond_stage_model.transformer.": text | {"text_model.embeddings.position_ids": torch.arange(77)[None]},
        "model_ema.": {"decay": torch.ones(()), "num_updates": torch.ones((), dtype=torch.int32)},
    }
    return {prefix + name: tensor for prefix, part in parts.items() for name, tensor in part.items()}


def diffusers_checkpoint(networks: tuple[UNet2DConditionModel, AutoencoderKL, CLIPTextModel]) -> dict[str, Tensor]:
    """Their tensors under diffusers' names in one file, text encoder and autoencoder behind prefixes."""
    unet, vae, text = (network.state_dict() for network in networks)
    return (
        unet
        | {f"vae.{name}": tensor for name, tensor in vae.items()}
        | {f"text_encoder.text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in text.items()}
    )
