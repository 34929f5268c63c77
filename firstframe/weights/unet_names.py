"""Names of the tensors in a UNet of Stable Diffusion 1.5 or SDXL: as diffusers and ComfyUI have them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from ..errors import WeightsError
from ..sites import SD15, SDXL, Site, UNetConfig
from .keymaps import UNET

UNetNames = Literal["diffusers", "host"]

HOST_PREFIX = "model.diffusion_model."
_OF_SDXL = {"add_embedding.linear_1.weight", "label_emb.0.0.weight"}
_OUTSIDE = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


def host_modules(config: UNetConfig = SD15) -> dict[str, str]:
    """Modules of a UNet by their diffusers names, with their names in the host."""
    layers, levels = config.layers_per_block, len(config.block_out_channels)
    modules = dict(_OUTSIDE)
    for site in config.motion_sites(mid=False):
        modules |= _resnet(site.diffusers("resnets"), f"{_block(site, layers)}.0")
    for half in (0, 1):
        modules |= _resnet(f"mid_block.resnets.{half}", f"middle_block.{2 * half}")
    for site in config.transformers:
        modules[site.diffusers("attentions")] = f"{_block(site, layers)}.1"
    for level in range(levels - 1):
        modules[f"down_blocks.{level}.downsamplers.0.conv"] = f"{_block(Site('down', level, layers), layers)}.0.op"
        behind = 1 + config.attention[levels - 1 - level]
        modules[f"up_blocks.{level}.upsamplers.0.conv"] = f"{_block(Site('up', level, layers), layers)}.{behind}.conv"
    return modules


def _block(site: Site, layers_per_block: int) -> str:
    stage, index = site.ldm(layers_per_block)
    return "middle_block" if stage == "middle" else f"{stage}_blocks.{index}"


def _resnet(theirs: str, host: str) -> dict[str, str]:
    return {f"{theirs}.{one}": f"{host}.{other}" for one, other in _RESNET.items()}


def unet_tensors(state: Mapping[str, Tensor], names: UNetNames, config: UNetConfig | None = None) -> dict[str, Tensor]:
    """The UNet's own tensors in ``state``, which has the names of either, under ``names``; all others are left out.

    ``config`` is that of Stable Diffusion 1.5 or of SDXL, by the tensors, if not given.

    WeightsError where there is no UNet of Stable Diffusion 1.5 or SDXL in it.
    """
    bare = {name.removeprefix(HOST_PREFIX): tensor for name, tensor in state.items()}
    to_host = host_modules(config or (SDXL if _OF_SDXL & bare.keys() else SD15))
    to_diffusers = {host: theirs for theirs, host in to_host.items()}
    unet = bare if "conv_in.weight" in bare else _renamed(bare, to_diffusers)
    unet = {name: tensor for name, tensor in unet.items() if re.fullmatch(UNET, name)}
    for needed in ("conv_in.weight", "mid_block.resnets.1.conv2.weight", "conv_out.weight"):
        if needed not in unet:
            raise WeightsError(f"there is no UNet of Stable Diffusion 1.5 or SDXL in it: {needed} is missing")
    if names == "diffusers":
        return unet
    return {HOST_PREFIX + name: tensor for name, tensor in _renamed(unet, to_host).items()}


def _renamed(state: Mapping[str, Tensor], modules: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors of ``modules`` under their other names."""
    found = {}
    for name, tensor in state.items():
        parts = name.split(".")
        beginnings = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
        if module := next((beginning for beginning in beginnings if beginning in modules), None):
            found[modules[module] + name.removeprefix(module)] = tensor
    return found
