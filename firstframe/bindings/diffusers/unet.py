"""What FirstFrame needs to know about a diffusers UNet."""

from __future__ import annotations

from diffusers import UNet2DConditionModel
from torch import nn

from ...errors import ModelMismatchError
from ...sites import Site, UNetConfig


def unet_config(unet: UNet2DConditionModel) -> UNetConfig:
    """The UNet's sites. A UNet that is not built like Stable Diffusion 1.5's is a ModelMismatchError."""
    config = unet.config
    num_heads = config.num_attention_heads or config.attention_head_dim
    if not isinstance(num_heads, int) or config.transformer_layers_per_block != 1:
        raise ModelMismatchError(
            "a UNet of the Stable Diffusion 1.5 type is needed; this one has attention heads "
            f"{num_heads} and {config.transformer_layers_per_block} transformer layers per block, "
            "as SD2 or SDXL have"
        )
    return UNetConfig(
        block_out_channels=tuple(config.block_out_channels),
        layers_per_block=config.layers_per_block,
        attention=tuple("CrossAttn" in name for name in config.down_block_types),
        num_heads=num_heads,
        cross_attention_dim=config.cross_attention_dim,
        in_channels=config.in_channels,
    )


def transformer_block(unet: UNet2DConditionModel, site: Site) -> nn.Module:
    """The block with ``attn1`` (self-attention) and ``attn2`` (text cross-attention) at ``site``."""
    block: nn.Module = unet.get_submodule(site.diffusers("attentions") + ".transformer_blocks.0")
    return block
