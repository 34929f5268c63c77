"""LoRAs (arXiv 2106.09685) of Stable Diffusion 1.5 and SDXL, merged into the weights that they change."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ..errors import FirstFrameError, WeightsError, printable
from ..sites import UNetConfig
from .files import StateDict, load_state_dict
from .unet_names import host_modules

_HALF = re.compile(
    r"(?P<layer>.+?)(?:\.(?:lora_(?P<kohya>up|down|A|B)(?:\.default)?|lora\.(?P<peft>up|down))|_lora\.(?P<old>up|down))"
    r"\.weight"
)
_ALPHA = re.compile(r"(?P<layer>.+)\.alpha")
_PREFIX = re.compile(r"(base_model_model_)?(lora_)?(unet_|te1?_|text_encoder_(?!2_))?")
_SECOND = re.compile(r"(te2|text_encoder_2)_")


def merge_loras(
    networks: Mapping[str, StateDict], config: UNetConfig, loras: Mapping[Path, float]
) -> dict[str, StateDict]:
    """The networks' weights, diffusers' and transformers' names, with every LoRA added at its strength.

    The networks are called "unet", "text" and, for SDXL's second text encoder, "text_2". A LoRA's
    names are those of kohya's trainer, of diffusers or of PEFT. W' = W + strength alpha/rank up down.

    Raises:
        WeightsError: a file cannot be read or holds something else than LoRA's two matrices, or a layer is not in the
            model; the message names file and key.
    """
    merged = {f"{network}.{name}": tensor for network, own in networks.items() for name, tensor in own.items()}
    places = _places(merged, config)
    for path, strength in loras.items():
        try:
            _merge(merged, places, load_state_dict(path), strength)
        except FirstFrameError as error:
            raise WeightsError(f"{path}: {error}".replace(f"{path}: {path}: ", f"{path}: ")) from error
    return {network: _of(merged, f"{network}.") for network in networks}


def _merge(merged: StateDict, places: Mapping[str, str], lora: StateDict, strength: float) -> None:
    for layer, halves in _layers(lora).items():
        place = places.get(_flat(layer))
        if place is None:
            raise WeightsError(
                f"the LoRA changes {printable(layer)}, which this model does not have; is it for another model?"
            )
        if missing := {"up", "down"} - halves.keys():
            raise WeightsError(f"{printable(layer)} has no {missing.pop()} matrix; the file is cut off")
        merged[place] = _changed(merged[place], layer, halves, strength)


def _changed(weight: Tensor, layer: str, halves: Mapping[str, Tensor], strength: float) -> Tensor:
    up, down = halves["up"].float(), halves["down"].float()
    rank = down.shape[0]
    alpha = halves["alpha"].item() if "alpha" in halves else rank
    if up[0].numel() != rank or up.shape[0] * down[0].numel() != weight.numel():
        raise WeightsError(
            f"{printable(layer)} has matrices of {tuple(up.shape)} and {tuple(down.shape)}, which do not make "
            f"weights of {tuple(weight.shape)}; is it for another model?"
        )
    change = (up.flatten(1) @ down.flatten(1)).reshape(weight.shape)
    return (weight.float() + strength * alpha / rank * change).to(weight.dtype)


def _layers(lora: StateDict) -> dict[str, dict[str, Tensor]]:
    """The matrices of each layer: up, down, and alpha where there is one."""
    layers: dict[str, dict[str, Tensor]] = {}
    for name, tensor in lora.items():
        if half := _HALF.fullmatch(name):
            role = half["kohya"] or half["peft"] or half["old"]
            layers.setdefault(half["layer"], {})[{"A": "down", "B": "up"}.get(role, role)] = tensor
        elif alpha := _ALPHA.fullmatch(name):
            layers.setdefault(alpha["layer"], {})["alpha"] = tensor
        else:
            raise WeightsError(
                f"{printable(name)} is none of a LoRA's two matrices (LoHa, LoKr and DoRA are not supported here); "
                "merge it into the checkpoint with the program that it was made for"
            )
    return layers


def _places(weights: StateDict, config: UNetConfig) -> dict[str, str]:
    """Keys of the weights, by the names under which LoRAs have their layers, with underscores for dots."""
    places = {}
    to_host = host_modules(config)
    for key in weights:
        if not key.endswith(".weight"):
            continue
        network, _, layer = key.removesuffix(".weight").partition(".")
        for name in _names(network, layer, to_host):
            places[_flat(name)] = places[_flat(name.removesuffix(".0"))] = key
    return places


def _names(network: str, layer: str, to_host: Mapping[str, str]) -> list[str]:
    if network == "unet":
        return [layer, *_in_host(layer, to_host)]
    prefix = "te2." if network == "text_2" else ""
    return [f"{prefix}{layer}", f"{prefix}text_model.{layer}"]


def _in_host(layer: str, modules: Mapping[str, str]) -> list[str]:
    """The name that a layer has in LDM's UNet, as some LoRAs have it."""
    beginnings = [name for name in modules if f"{layer}.".startswith(f"{name}.")]
    return [modules[name] + layer.removeprefix(name) for name in beginnings]


def _flat(layer: str) -> str:
    flat = layer.replace(".processor.", ".").replace(".", "_")
    return _SECOND.sub("te2_", _PREFIX.sub("", flat, count=1), count=1)


def _of(merged: StateDict, network: str) -> StateDict:
    return {key.removeprefix(network): tensor for key, tensor in merged.items() if key.startswith(network)}
