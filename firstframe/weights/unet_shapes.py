"""How large a Stable Diffusion UNet is, read off the names and shapes of its tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import count, takewhile

from torch import Tensor

from ..errors import WeightsError
from ..sites import UNetConfig
from .unet_names import HOST_PREFIX

SD15_HEADS = 8
SD15_TEXT = 768


def read_unet_config(state: Mapping[str, Tensor]) -> UNetConfig:
    """The sizes of the UNet in ``state``, which has diffusers' names or those of ComfyUI and LDM.

    Raises:
        WeightsError: there is no UNet, or it is not built like Stable Diffusion 1.5's.
    """
    shapes = {name.removeprefix(HOST_PREFIX): tuple(tensor.shape) for name, tensor in state.items()}
    if "conv_in.weight" in shapes:
        return _read(shapes, "conv_in.weight", "down_blocks.{0}.resnets.{1}.conv1", "down_blocks.{0}.attentions.{1}")
    if "input_blocks.0.0.weight" not in shapes:
        raise WeightsError("there is no UNet of Stable Diffusion 1.5 in it")
    layers = next(i for i in count(1) if f"input_blocks.{i + 1}.0.in_layers.2.weight" not in shapes)
    renamed = {_as_level(name, layers): shape for name, shape in shapes.items()}
    return _read(renamed, "input_blocks.0.0.weight", "level.{0}.{1}.0.in_layers.2", "level.{0}.{1}.1")


def _as_level(name: str, layers: int) -> str:
    """``input_blocks.4.0.in_layers`` to ``level.1.0.0.in_layers``: each level has its layers and a downsampling."""
    stage, _, rest = name.partition(".")
    number, _, rest = rest.partition(".")
    if stage != "input_blocks" or number == "0":
        return name
    level, layer = divmod(int(number) - 1, layers + 1)
    return f"level.{level}.{layer}.{rest}"


def _read(shapes: Mapping[str, tuple[int, ...]], conv_in: str, resnet: str, attention: str) -> UNetConfig:
    def convolution(level: int, layer: int) -> str:
        return f"{resnet.format(level, layer)}.weight"

    levels = _count(convolution(level, 0) in shapes for level in count())
    layers = _count(convolution(0, layer) in shapes for layer in count())
    transformers = [f"{attention.format(level, 0)}" for level in range(levels)]
    keys = "transformer_blocks.0.attn2.to_k.weight"
    text = [shapes[name] for at in transformers if (name := f"{at}.{keys}") in shapes]
    projections = [len(shapes[name]) for at in transformers if (name := f"{at}.proj_in.weight") in shapes]
    deep = any(f"{at}.transformer_blocks.1.norm1.weight" in shapes for at in transformers)
    if not text or deep or 2 in projections:
        raise WeightsError(
            "its UNet is not built like Stable Diffusion 1.5's (Stable Diffusion 2 and SDXL are not); give a "
            "checkpoint of Stable Diffusion 1.5"
        )
    return UNetConfig(
        block_out_channels=tuple(shapes[convolution(level, 0)][0] for level in range(levels)),
        layers_per_block=layers,
        attention=tuple(f"{at}.{keys}" in shapes for at in transformers),
        num_heads=SD15_HEADS,
        cross_attention_dim=text[0][1],
        in_channels=shapes[conv_in][1],
    )


def _count(present: Iterable[bool]) -> int:
    return sum(1 for _ in takewhile(bool, present))
