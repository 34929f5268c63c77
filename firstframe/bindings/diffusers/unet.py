"""What FirstFrame needs to know about a diffusers UNet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diffusers import UNet2DConditionModel
from torch import nn

from ...errors import ModelMismatchError
from ...sites import Site, UNetConfig


def unet_config(unet: UNet2DConditionModel) -> UNetConfig:
    """The UNet's sites.

    Raises:
        ModelMismatchError: the UNet is built neither like Stable Diffusion 1.5's nor like SDXL's.
    """
    config = unet.config
    is_sdxl = config.addition_embed_type == "text_time" and config.use_linear_projection
    if not is_sdxl and not _is_sd15(config):
        raise ModelMismatchError(
            "a UNet like Stable Diffusion 1.5's or SDXL's is needed; this one has attention heads "
            f"{_heads(config)}, {config.transformer_layers_per_block} transformer layers per block and "
            f"{config.addition_embed_type or 'no'} added embeddings, as Stable Diffusion 2 or SDXL's refiner have"
        )
    return UNetConfig(
        block_out_channels=tuple(config.block_out_channels),
        layers_per_block=config.layers_per_block,
        attention=tuple("CrossAttn" in name for name in config.down_block_types),
        num_heads=None if is_sdxl else _heads(config),
        cross_attention_dim=config.cross_attention_dim,
        in_channels=config.in_channels,
        **_of_sdxl(config) if is_sdxl else {},
    )


def _is_sd15(config: Any) -> bool:
    plain = config.addition_embed_type is None and config.transformer_layers_per_block == 1
    return plain and isinstance(_heads(config), int)


def _of_sdxl(config: Any) -> dict[str, Any]:
    levels = len(config.block_out_channels)
    shapes = zip(config.down_block_types, config.block_out_channels, _each(_heads(config), levels), strict=True)
    channels = {width // heads for kind, width, heads in shapes if "CrossAttn" in kind}
    if len(channels) != 1:
        raise ModelMismatchError(
            f"attention heads are {sorted(channels)} channels wide, where SDXL's are equally wide (64) at all levels"
        )
    return {
        "depths": _each(config.transformer_layers_per_block, levels),
        "head_channels": channels.pop(),
        "pooled_channels": config.projection_class_embeddings_input_dim,
    }


def _heads(config: Any) -> Any:
    """Attention heads, one number or one for each level: diffusers calls them ``attention_head_dim`` by mistake."""
    return config.num_attention_heads or config.attention_head_dim


def _each(value: int | Sequence[int], levels: int) -> tuple[int, ...]:
    return (value,) * levels if isinstance(value, int) else tuple(value)


def transformer_block(unet: UNet2DConditionModel, site: Site) -> nn.Module:
    """The block with ``attn1`` (self-attention) and ``attn2`` (text cross-attention) at ``site``."""
    block: nn.Module = unet.get_submodule(site.diffusers_transformer)
    return block
