"""Weights files: reading, telling apart, renaming and writing them."""

from __future__ import annotations

from .files import load_metadata, load_state_dict, save_state_dict
from .kinds import I2V_ADAPTER, IMAGE_TOKENS, MOTION_MODULE, RESAMPLER, RETENTION
from .layouts import LAYOUTS, Layout, detect_layout
from .module_files import has_motion_module, load, save
from .motion_lora import load_motion_lora

__all__ = [
    "I2V_ADAPTER",
    "IMAGE_TOKENS",
    "LAYOUTS",
    "MOTION_MODULE",
    "RESAMPLER",
    "RETENTION",
    "Layout",
    "detect_layout",
    "has_motion_module",
    "load",
    "load_metadata",
    "load_motion_lora",
    "load_state_dict",
    "save",
    "save_state_dict",
]
