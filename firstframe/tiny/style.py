"""The tiny base in another look: a LoRA that was trained on the scenes at dusk, merged into the UNet."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

from diffusers import UNet2DConditionModel

from ..bindings.diffusers import unet_config
from ..weights.lora import merge_loras
from .files import weights_file
from .model import TinyModel


def with_look(model: TinyModel) -> TinyModel:
    """The same model with the LoRA merged into a copy of its UNet; everything else is shared."""
    return replace(model, unet=with_lora(model.unet, weights_file("look_lora")))


def with_lora(unet: UNet2DConditionModel, lora: Path) -> UNet2DConditionModel:
    """A copy of ``unet`` with the LoRA in a file merged into it. Raises WeightsError where it is for another one."""
    weights = {name: weight.cpu() for name, weight in unet.state_dict().items()}
    copied = deepcopy(unet)
    copied.load_state_dict(merge_loras({"unet": weights}, unet_config(unet), {lora: 1.0})["unet"])
    return copied
