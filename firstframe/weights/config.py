"""Configurations in a file's metadata, checked against their dataclass and against bounds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from types import UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from ..errors import WeightsError
from ..modules.layers import NORM_GROUPS
from ..modules.motion import MotionConfig
from ..modules.retention import STEM_CHANNELS, RetentionConfig
from ..sites import UNetConfig

Config = TypeVar("Config")

MAX_TEXT = 100_000
MAX_LEVELS = 8
MAX_WIDTH = 16_384
LIMITS: Mapping[str, int] = {
    "block_out_channels": MAX_WIDTH,
    "cross_attention_dim": MAX_WIDTH,
    "depths": 64,
    "head_channels": MAX_WIDTH,
    "in_channels": 256,
    "layers_per_block": 8,
    "max_frames": 4_096,
    "num_heads": 256,
    "num_tokens": 4_096,
    "pooled_channels": MAX_WIDTH,
    "stem_channels": MAX_WIDTH,
}
"""The largest value of each number; the smallest is 1. Building a module of such sizes takes seconds, not minutes."""


def parse_config(schema: type[Config], text: str) -> Config:
    """An instance of the dataclass ``schema`` from JSON.

    Raises:
        WeightsError: no JSON, an entry too many, missing, of another type or out of its bounds.
    """
    try:
        stored = json.loads(text) if len(text) <= MAX_TEXT else None
    except (ValueError, RecursionError):
        stored = None
    return _record(schema, stored, "the configuration in the metadata")


def within_limits(config: Config) -> Config:
    """``config`` itself. Raises WeightsError where a number is out of its bounds."""
    _record(type(config), asdict(config), "the configuration that the shapes tell")  # type: ignore[call-overload]
    return config


def _record(schema: type[Config], stored: object, where: str) -> Config:
    if not isinstance(stored, dict):
        raise WeightsError(f"{where} is no JSON object with the entries of a {schema.__name__}; fetch the file again")
    known = {field.name: field for field in fields(schema)}  # type: ignore[arg-type]
    required = {name for name, field in known.items() if field.default is MISSING}
    if wrong := sorted(map(str, (stored.keys() - known.keys()) | (required - stored.keys()))):
        raise WeightsError(f"{where}: {wrong[0][:80]!r} is {'unknown' if wrong[0] in stored else 'missing'}")
    hints = get_type_hints(schema)
    return schema(**{name: _value(hints[name], value, f"{where}: {name}", name) for name, value in stored.items()})


def _value(hint: Any, stored: object, where: str, name: str) -> Any:
    if is_dataclass(hint):
        return _record(cast(type[Any], hint), stored, where)
    if get_origin(hint) in (Union, UnionType):
        return None if stored is None else _value(get_args(hint)[0], stored, where, name)
    if get_origin(hint) is Literal:
        if stored not in get_args(hint):
            raise WeightsError(f"{where} is {_shown(stored)}; expected one of {', '.join(get_args(hint))}")
        return stored
    if get_origin(hint) is tuple:
        if not isinstance(stored, list | tuple) or not 1 <= len(stored) <= MAX_LEVELS:
            raise WeightsError(f"{where} is {_shown(stored)}, not a list of 1 to {MAX_LEVELS} entries")
        return tuple(_value(get_args(hint)[0], one, where, name) for one in stored)
    if type(stored) is not hint:
        raise WeightsError(f"{where} is {_shown(stored)}, not of type {hint.__name__}")
    if hint is int and not 1 <= cast(int, stored) <= LIMITS[name]:
        raise WeightsError(f"{where} is {_shown(stored)}; expected 1 to {LIMITS[name]}")
    return stored


def _shown(value: object) -> str:
    return f"{value!r:.80}"


def check_heads(widths: Iterable[int], num_heads: int | None, head_channels: int | None = None) -> None:
    """WeightsError unless each width is divided evenly by ``num_heads``, or into heads of ``head_channels`` each."""
    if num_heads is None and head_channels is None:
        raise WeightsError("neither num_heads nor head_channels tells how many attention heads there are")
    for width in widths:
        if not 1 <= width <= MAX_WIDTH or width % (num_heads or head_channels or 1):
            shared = f"{num_heads} attention heads" if num_heads else f"attention heads of {head_channels} channels"
            raise WeightsError(f"a width of {width} channels cannot be shared by {shared}")


def check_motion(config: MotionConfig) -> MotionConfig:
    """``config`` itself. Raises WeightsError for widths that norms or heads cannot divide."""
    check_heads(config.block_out_channels, config.num_heads)
    for width in config.block_out_channels:
        if width % NORM_GROUPS:
            raise WeightsError(f"a width of {width} channels is no multiple of the norms' {NORM_GROUPS} groups")
    return config


def check_retention(config: RetentionConfig) -> RetentionConfig:
    """``config`` itself. Raises WeightsError where its parts do not fit each other."""
    unet, motion = config.unet, check_motion(config.motion)
    for name in ("block_out_channels", "layers_per_block"):
        if getattr(unet, name) != getattr(motion, name):
            raise WeightsError(f"{name} is {getattr(unet, name)} for the UNet, {getattr(motion, name)} for its motion")
    _check_length(unet, "attention", len(unet.block_out_channels))
    if unet.depths is not None:
        _check_length(unet, "depths", len(unet.block_out_channels))
    check_heads(unet.attention_sites.values(), unet.num_heads, unet.head_channels)
    _check_length(config, "stem_channels", len(STEM_CHANNELS))
    return config


def _check_length(config: UNetConfig | RetentionConfig, name: str, length: int) -> None:
    found = getattr(config, name)
    if len(found) != length:
        raise WeightsError(f"{name} has {len(found)} entries, not {length}")
