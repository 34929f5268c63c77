"""The shape of a UNet, read off its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from ..errors import WeightsError
from ..sites import SD15, SDXL, UNetConfig
from .unet_names import HOST_PREFIX

CONTEXT = re.compile(r"(middle_block\.1|mid_block\.attentions\.0)\.transformer_blocks\.0\.attn2\.to_k\.weight")
POOLED = ("label_emb.0.0.weight", "add_embedding.linear_1.weight")
REFINER_WIDTH = 384
IMAGE_CHANNELS = 4


def read_unet_config(state: Mapping[str, Tensor]) -> UNetConfig:
    """The configuration of the UNet in ``state``, whose names are those of diffusers or of LDM (the host).

    Heads do not show in the shapes: Stable Diffusion 1.5 has 8 everywhere, SDXL's are 64 channels wide.

    Raises:
        WeightsError: no UNet of these types is in it; SD 2, SDXL's refiner, models like SSD-1B and inpainting models
            are named.
    """
    unet = {name.removeprefix(HOST_PREFIX): tensor for name, tensor in state.items()}
    context = next((tensor for name, tensor in unet.items() if CONTEXT.fullmatch(name)), None)
    first = unet.get("conv_in.weight", unet.get("input_blocks.0.0.weight"))
    if context is None or first is None:
        raise WeightsError("there is no UNet of Stable Diffusion 1.5 or SDXL in it")
    _check_family(unet, first)
    levels = _diffusers_levels(unet) if "conv_in.weight" in unet else _ldm_levels(unet)
    widths, depths = zip(*levels[1], strict=True)
    common = (widths, levels[0], tuple(depth > 0 for depth in depths))
    pooled = next((unet[name] for name in POOLED if name in unet), None)
    if pooled is None:
        return UNetConfig(*common, SD15.num_heads, context.shape[1], first.shape[1])
    of_sdxl = (tuple(max(1, depth) for depth in depths), SDXL.head_channels, pooled.shape[1])
    config = UNetConfig(*common, None, context.shape[1], first.shape[1], *of_sdxl)
    _check_depths(unet, config)
    return config


def _check_family(unet: Mapping[str, Tensor], first: Tensor) -> None:
    linear = any(name.endswith("proj_in.weight") and tensor.ndim == 2 for name, tensor in _spatial(unet))
    if linear and not unet.keys() & set(POOLED):
        raise WeightsError("its UNet is of SD 2; a checkpoint of Stable Diffusion 1.5 or SDXL is needed")
    if first.shape[0] == REFINER_WIDTH:
        raise WeightsError("its UNet is SDXL's refiner; SDXL's base is needed")
    if first.shape[1] != IMAGE_CHANNELS:
        raise WeightsError(
            f"its UNet takes {first.shape[1]} channels, as inpainting models do, not {IMAGE_CHANNELS}; "
            "use the base model that it was made from"
        )


def _check_depths(unet: Mapping[str, Tensor], config: UNetConfig) -> None:
    found = sum(name.endswith(".attn1.to_q.weight") for name, _ in _spatial(unet))
    if found != (wanted := len(config.attention_sites)):
        raise WeightsError(
            f"its UNet has {found} transformer blocks where SDXL has {wanted}, as SSD-1B, Vega and KOALA do; "
            "use a checkpoint that was made from SDXL itself"
        )


def _spatial(unet: Mapping[str, Tensor]) -> list[tuple[str, Tensor]]:
    return [(name, tensor) for name, tensor in unet.items() if "temporal" not in name and "motion" not in name]


def _depth(unet: Mapping[str, Tensor], transformer: str) -> int:
    """How many transformer blocks a spatial transformer has; 0 where there is none."""
    depth = 0
    while f"{transformer}.transformer_blocks.{depth}.attn1.to_q.weight" in unet:
        depth += 1
    return depth


def _diffusers_levels(unet: Mapping[str, Tensor]) -> tuple[int, list[tuple[int, int]]]:
    """Layers in each level, and the levels' widths and depths, 0 without attention."""
    layers, levels = 0, list[tuple[int, int]]()
    while f"down_blocks.0.resnets.{layers}.conv2.weight" in unet:
        layers += 1
    while (name := f"down_blocks.{len(levels)}.resnets.0.conv2.weight") in unet:
        levels.append((unet[name].shape[0], _depth(unet, f"down_blocks.{len(levels)}.attentions.0")))
    return layers, levels


def _ldm_levels(unet: Mapping[str, Tensor]) -> tuple[int, list[tuple[int, int]]]:
    """As `_diffusers_levels`. LDM counts layers and downsamplers in one row, behind the first convolution."""
    count = 1
    while any(name.startswith(f"input_blocks.{count}.") for name in unet):
        count += 1
    every = next((index for index in range(1, count) if f"input_blocks.{index}.0.op.weight" in unet), count)
    firsts = [f"input_blocks.{index}" for index in range(1, count, every)]
    return every - 1, [
        (unet[f"{block}.0.out_layers.3.weight"].shape[0], _depth(unet, f"{block}.1")) for block in firsts
    ]
