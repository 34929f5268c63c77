"""Untrained adapters and branches for a base: they change nothing until they are trained."""

from __future__ import annotations

from dataclasses import replace

import torch
from diffusers import UNet2DConditionModel

from ..bindings.diffusers import transformer_block, unet_config
from ..modules.i2v_adapter import I2VAdapter
from ..modules.image_prompt import ImageTokenAdapter, Resampler, ResamplerConfig
from ..modules.layers import SIZES_CHANNELS
from ..modules.motion import MotionModule
from ..modules.retention import STEM_CHANNELS, RetentionBranch, RetentionConfig


def new_adapter(unet: UNet2DConditionModel) -> I2VAdapter:
    """An adapter with queries copied from ``unet`` and output projections zero (arXiv 2312.16693, section 3.2)."""
    config = unet_config(unet)
    adapter = I2VAdapter(config.attention_sites, config.heads)
    adapter.copy_queries(lambda site: transformer_block(unet, site).get_parameter("attn1.to_q.weight"))
    return adapter


def new_content(unet: UNet2DConditionModel, feature_dim: int) -> tuple[Resampler, ImageTokenAdapter]:
    """IP-Adapter Plus for features of a width: a random resampler, projections copied from those of the text.

    Sizes are those of the published ones, as is the start (arXiv 2308.06721).
    """
    config = unet_config(unet)
    pooled = config.pooled_channels
    width = config.cross_attention_dim if pooled is None else pooled - SIZES_CHANNELS
    resampler = Resampler(ResamplerConfig(feature_dim, width, config.cross_attention_dim))
    tokens = ImageTokenAdapter(config.attention_sites, config.cross_attention_dim, config.heads)
    with torch.no_grad():
        for site in tokens:
            attention = transformer_block(unet, site).get_submodule("attn2")
            tokens[site].to_k_ip.weight.copy_(attention.get_parameter("to_k.weight"))
            tokens[site].to_v_ip.weight.copy_(attention.get_parameter("to_v.weight"))
    return resampler, tokens


def new_retention(
    unet: UNet2DConditionModel, motion: MotionModule, stem_channels: tuple[int, ...] = STEM_CHANNELS
) -> RetentionBranch:
    """A branch with the base's down blocks copied and projections zero (arXiv 2312.03018)."""
    config = RetentionConfig(unet_config(unet), replace(motion.config, mid=False), stem_channels)
    branch = RetentionBranch(config)
    branch.copy_base(unet.state_dict(), motion)
    return branch
