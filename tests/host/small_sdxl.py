"""SDXL small enough to sample with everywhere: depths cut to 0, 1 and 2, heads as wide as they are, random weights."""

from __future__ import annotations

from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from comfyui_firstframe_pack.firstframe.bindings.comfy.weights import HOST, as_patcher
from comfyui_firstframe_pack.firstframe.modules.image_prompt import ImageTokenAdapter
from comfyui_firstframe_pack.firstframe.sites import UNetConfig
from small import conditioning, random_unet, randomise, small_model
from torch import Tensor

SIZE_EMBEDDINGS = 6 * 256
POOLED = 8
SMALL_SDXL = UNetConfig(
    block_out_channels=(32, 64, 128),
    layers_per_block=1,
    attention=(False, True, True),
    num_heads=None,
    cross_attention_dim=32,
    depths=(1, 1, 2),
    head_channels=64,
    pooled_channels=POOLED + SIZE_EMBEDDINGS,
)
IMAGE_TOKENS = 5


def small_sdxl(config: UNetConfig = SMALL_SDXL) -> ModelPatcher:
    """A MODEL."""
    return small_model(config)


def diffusers_weights(config: UNetConfig = SMALL_SDXL) -> dict[str, Tensor]:
    """Its weights under diffusers' names."""
    return {name: weight for name, weight in random_unet(config).items() if not name.startswith("class_embedding.")}


def prompts() -> list[Any]:
    """A positive and a negative CONDITIONING with pooled text."""
    return [prompt(seed) for seed in (1, 2)]


def prompt(seed: int) -> list[Any]:
    ((text, extra),) = conditioning(seed)
    pooled = torch.randn(1, POOLED, generator=torch.Generator().manual_seed(100 + seed))
    return [[text, {**extra, "pooled_output": pooled}]]


def small_image_tokens(config: UNetConfig = SMALL_SDXL) -> ModelPatcher:
    """Projections of image tokens for it."""
    adapter = ImageTokenAdapter(config.attention_sites, config.cross_attention_dim, config.heads, IMAGE_TOKENS, HOST)
    return as_patcher(randomise(adapter, 6))
