"""The shape of a UNet, read off its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from ..errors import WeightsError
from ..sites import SD15, UNetConfig
from .unet_names import HOST_PREFIX

CONTEXT = re.compile(r"(middle_block\.1|mid_block\.attentions\.0)\.transformer_blocks\.0\.attn2\.to_k\.weight")
IMAGE_CHANNELS = 4


def read_unet_config(state: Mapping[str, Tensor]) -> UNetConfig:
    """The configuration of the UNet in ``state``, whose names are those of diffusers or of LDM (the host).

    The number of heads does not show in the shapes: it is 8, as in all models of the Stable Diffusion 1.5 type.

    Raises:
        WeightsError: no UNet of that type is in it; SDXL, SD 2 and inpainting models are named.
    """
    unet = {name.removeprefix(HOST_PREFIX): tensor for name, tensor in state.items()}
    context = next((tensor for name, tensor in unet.items() if CONTEXT.fullmatch(name)), None)
    first = unet.get("conv_in.weight", unet.get("input_blocks.0.0.weight"))
    if context is None or first is None:
        raise WeightsError("there is no UNet of Stable Diffusion 1.5 in it")
    _check_family(unet, first)
    levels = _diffusers_levels(unet) if "conv_in.weight" in unet else _ldm_levels(unet)
    widths, attention = zip(*levels[1], strict=True)
    return UNetConfig(widths, levels[0], attention, SD15.num_heads, context.shape[1], first.shape[1])


def _check_family(unet: Mapping[str, Tensor], first: Tensor) -> None:
    linear = any(name.endswith("proj_in.weight") and tensor.ndim == 2 for name, tensor in _spatial(unet))
    if "label_emb.0.0.weight" in unet or "add_embedding.linear_1.weight" in unet or linear:
        raise WeightsError("its UNet is of SDXL or SD 2; a checkpoint of the Stable Diffusion 1.5 type is needed")
    if first.shape[1] != IMAGE_CHANNELS:
        raise WeightsError(
            f"its UNet takes {first.shape[1]} channels, as inpainting models do, not {IMAGE_CHANNELS}; "
            "use the base model that it was made from"
        )


def _spatial(unet: Mapping[str, Tensor]) -> list[tuple[str, Tensor]]:
    return [(name, tensor) for name, tensor in unet.items() if "temporal" not in name and "motion" not in name]


def _diffusers_levels(unet: Mapping[str, Tensor]) -> tuple[int, list[tuple[int, bool]]]:
    """Layers in each level, and the levels' widths and whether they have attention."""
    layers, levels = 0, list[tuple[int, bool]]()
    while f"down_blocks.0.resnets.{layers}.conv2.weight" in unet:
        layers += 1
    while (name := f"down_blocks.{len(levels)}.resnets.0.conv2.weight") in unet:
        attention = f"down_blocks.{len(levels)}.attentions.0.proj_in.weight" in unet
        levels.append((unet[name].shape[0], attention))
    return layers, levels


def _ldm_levels(unet: Mapping[str, Tensor]) -> tuple[int, list[tuple[int, bool]]]:
    """As `_diffusers_levels`. LDM counts layers and downsamplers in one row, behind the first convolution."""
    count = 1
    while any(name.startswith(f"input_blocks.{count}.") for name in unet):
        count += 1
    every = next((index for index in range(1, count) if f"input_blocks.{index}.0.op.weight" in unet), count)
    firsts = [f"input_blocks.{index}" for index in range(1, count, every)]
    return every - 1, [
        (unet[f"{block}.0.out_layers.3.weight"].shape[0], f"{block}.1.proj_in.weight" in unet) for block in firsts
    ]
