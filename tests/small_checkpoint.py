"""Checkpoints of Stable Diffusion 1.5's and SDXL's type that are a thousand times smaller, in the published layouts."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from synthetic import AUTOENCODER_TO_LDM, renamed, with_convolutions
from torch import Tensor, nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

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


BIG = CLIPTextConfig(
    vocab_size=49408,
    hidden_size=128,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=2,
    projection_dim=128,
    hidden_act="gelu",
    eos_token_id=49407,
)
SMALL_XL = UNetConfig(
    (32, 64, 128), 1, (False, True, True), None, 192, depths=(1, 1, 2), head_channels=64, pooled_channels=128 + 6 * 256
)
UNET_XL: dict[str, Any] = {
    "block_out_channels": SMALL_XL.block_out_channels,
    "layers_per_block": SMALL_XL.layers_per_block,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": SMALL_XL.cross_attention_dim,
    "transformer_layers_per_block": SMALL_XL.depths,
    "attention_head_dim": (1, 1, 2),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": SMALL_XL.pooled_channels,
}
NetworksXL = tuple[UNet2DConditionModel, AutoencoderKL, CLIPTextModel, CLIPTextModelWithProjection]


def small_sdxl_networks() -> NetworksXL:
    """UNet (depths 0, 1 and 2, heads of 64 channels), autoencoder and both text encoders with random weights."""
    torch.manual_seed(0)
    unet, vae = UNet2DConditionModel(**UNET_XL), AutoencoderKL(**AUTOENCODER)
    networks = (unet, vae, CLIPTextModel(TEXT), CLIPTextModelWithProjection(BIG))
    for network in networks:
        network.eval().requires_grad_(False)
    return networks


def sdxl_checkpoint(networks: NetworksXL) -> dict[str, Tensor]:
    """Their tensors under the names of SDXL's published single file."""
    unet, vae, first, second = (network.state_dict() for network in networks)
    parts = {
        "": unet_tensors(unet, "host", SMALL_XL),
        "first_stage_model.": with_convolutions(renamed(vae, AUTOENCODER_TO_LDM)),
        "conditioner.embedders.0.transformer.text_model.": _without_prefix(first),
        "conditioner.embedders.1.model.": open_clip(_without_prefix(second)),
    }
    return {prefix + name: tensor.contiguous() for prefix, part in parts.items() for name, tensor in part.items()}


def sdxl_in_diffusers_names(networks: NetworksXL) -> dict[str, Tensor]:
    """Their tensors under diffusers' names in one file."""
    unet, vae, first, second = (network.state_dict() for network in networks)
    prefixes = {"vae.": vae, "text_encoder.text_model.": _without_prefix(first), "text_encoder_2.": second}
    return unet | {prefix + name: tensor for prefix, part in prefixes.items() for name, tensor in part.items()}


def _without_prefix(text: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("text_model."): tensor for name, tensor in text.items()}


def open_clip(text: dict[str, Tensor]) -> dict[str, Tensor]:
    """A text encoder's tensors under OpenCLIP's names."""
    whole, layers = dict(text), BIG.num_hidden_layers
    for layer in range(layers):
        for kind in ("weight", "bias"):
            projections = [whole.pop(f"encoder.layers.{layer}.self_attn.{one}_proj.{kind}") for one in "qkv"]
            whole[f"encoder.layers.{layer}.self_attn.in_proj_{kind}"] = torch.cat(projections)
    whole["text_projection"] = whole.pop("text_projection.weight").T
    table = [
        (r"^encoder\.layers", "transformer.resblocks"),
        (r"self_attn", "attn"),
        (r"\.layer_norm", ".ln_"),
        (r"mlp\.fc1", "mlp.c_fc"),
        (r"mlp\.fc2", "mlp.c_proj"),
        (r"^embeddings\.token_embedding", "token_embedding"),
        (r"^embeddings\.position_embedding\.weight", "positional_embedding"),
        (r"^final_layer_norm", "ln_final"),
    ]
    return renamed(whole, table)
