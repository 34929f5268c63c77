"""The tiny base in another look: a LoRA that was trained on the scenes at dusk, merged into the UNet."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import ModelMismatchError
from .files import weights_file
from .model import TinyModel

PREFIX = "lora_unet_"


def with_look(model: TinyModel) -> TinyModel:
    """The same model with the LoRA merged into a copy of its UNet; everything else is shared."""
    unet = deepcopy(model.unet)
    merge_lora(unet, load_file(weights_file("look_lora"), str(unet.device)))
    return replace(model, unet=unet)


@torch.no_grad()
def merge_lora(unet: nn.Module, lora: Mapping[str, Tensor]) -> None:
    """``W + up @ down`` for every layer that the LoRA (arXiv 2106.09685) names, ``lora_unet_`` and its name in one.

    Raises ModelMismatchError for a layer that the UNet does not have.
    """
    layers = {PREFIX + name.replace(".", "_"): layer for name, layer in unet.named_modules()}
    for key in sorted({name.split(".")[0] for name in lora}):
        if key not in layers:
            raise ModelMismatchError(f"the LoRA is for another UNet: this one has no {key}")
        up, down = (lora[f"{key}.lora_{half}.weight"].flatten(1).float() for half in ("up", "down"))
        weight = layers[key].get_parameter("weight")
        scale = lora[f"{key}.alpha"].item() / len(down)
        weight += scale * (up @ down).reshape(weight.shape).to(weight)
