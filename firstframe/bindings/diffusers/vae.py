"""Autoencoders of Stable Diffusion 1.5 and SDXL from a file's tensors: KL (arXiv 2112.10752) and TAESD."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint
from torch import Tensor

from ...errors import WeightsError
from .filling import fill

SD15_SCALE, SDXL_SCALE = 0.18215, 0.13025
Autoencoder: TypeAlias = "AutoencoderKL | AutoencoderTiny"

_PREFIXES = ("first_stage_model.", "vae.")
_FORMER_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_TAESD = re.compile(r"taesd_(encoder|decoder)\.(\d+)\.(.+)")


def build_vae(state: Mapping[str, Tensor], scale: float = SD15_SCALE) -> Autoencoder:
    """The autoencoder in ``state``, a checkpoint's or a file's of its own, in the names of LDM, diffusers or TAESD.

    Its ``config.scaling_factor`` times its latents are the UNet's: ``scale``, and 1 for TAESD.

    Raises:
        WeightsError: there is none.
    """
    prefix = next((one for one in _PREFIXES if any(name.startswith(one) for name in state)), "")
    own = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    tiny = {_taesd_name(name): tensor for name, tensor in own.items() if _TAESD.fullmatch(name)}
    if tiny or "decoder.layers.0.weight" in own:
        return _filled(AutoencoderTiny, _tiny_config(), tiny or own)
    if "encoder.conv_in.weight" not in own:
        raise WeightsError("there is no autoencoder (VAE) of Stable Diffusion in it; give one with --vae")
    if "encoder.down.0.block.0.conv1.weight" in own:
        levels = _count(own, "encoder.down.{}.block.0.conv1.weight")
        own = convert_ldm_vae_checkpoint(own, {"down_block_types": range(levels), "up_block_types": range(levels)})
    own = {_present_name(name): _linear(name, tensor) for name, tensor in own.items()}
    return _filled(AutoencoderKL, _kl_config(own, scale), own)


def _kl_config(state: Mapping[str, Tensor], scale: float) -> dict[str, Any]:
    name = "encoder.down_blocks.{}.resnets.0.conv1.weight"
    widths = tuple(state[name.format(level)].shape[0] for level in range(_count(state, name)))
    return {
        "block_out_channels": widths,
        "layers_per_block": _count(state, "encoder.down_blocks.0.resnets.{}.conv1.weight"),
        "down_block_types": ("DownEncoderBlock2D",) * len(widths),
        "up_block_types": ("UpDecoderBlock2D",) * len(widths),
        "latent_channels": state["decoder.conv_in.weight"].shape[1],
        "scaling_factor": scale,
    }


def _tiny_config() -> dict[str, Any]:
    return {"scaling_factor": 1.0}


def _count(state: Mapping[str, Tensor], name: str) -> int:
    count = 0
    while name.format(count) in state:
        count += 1
    return count


def _taesd_name(name: str) -> str:
    """diffusers' name of a TAESD tensor: the published decoder counts its clamp as layer 0."""
    match = _TAESD.fullmatch(name)
    if match is None:
        return name
    half, layer, rest = match.groups()
    return f"{half}.layers.{int(layer) - (half == 'decoder')}.{rest}"


def _present_name(name: str) -> str:
    """The attentions had other names in the first versions of diffusers."""
    return re.sub(r"(attentions\.0\.)(query|key|value|proj_attn)\.", lambda m: f"{m[1]}{_FORMER_NAMES[m[2]]}.", name)


def _linear(name: str, tensor: Tensor) -> Tensor:
    """The attentions were convolutions of one pixel."""
    return tensor.flatten(1) if "attentions." in name and tensor.ndim == 4 else tensor


def _filled(kind: type[Autoencoder], config: dict[str, Any], state: Mapping[str, Tensor]) -> Autoencoder:
    with torch.device("meta"):
        model = kind(**config)
    return fill(model, state, "autoencoder")
