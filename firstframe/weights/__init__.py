"""Weights files: reading, telling apart, renaming and writing them."""

from __future__ import annotations

from .files import load_metadata, load_state_dict, save_state_dict
from .layouts import LAYOUTS, Layout, detect_layout
from .load import (
    has_motion_module,
    load_adapter,
    load_image_tokens,
    load_motion,
    load_motion_lora,
    load_resampler,
    load_retention,
    save_adapter,
    save_image_tokens,
    save_motion,
    save_retention,
)

__all__ = [
    "LAYOUTS",
    "Layout",
    "detect_layout",
    "has_motion_module",
    "load_adapter",
    "load_image_tokens",
    "load_metadata",
    "load_motion",
    "load_motion_lora",
    "load_resampler",
    "load_retention",
    "load_state_dict",
    "save_adapter",
    "save_image_tokens",
    "save_motion",
    "save_retention",
    "save_state_dict",
]
