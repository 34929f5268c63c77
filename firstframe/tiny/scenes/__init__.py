"""Captioned scenes with known motion, rendered from a seed: data that anyone can make again."""

from .render import Clip, path, render
from .scene import (
    BACKWARDS,
    CAMERAS,
    COLOURS,
    DIRECTIONS,
    SHAPES,
    SPEEDS,
    Scene,
    caption_words,
    held_out_seed,
    sample_scene,
    training_seed,
)
from .style import dusk

__all__ = [
    "BACKWARDS",
    "CAMERAS",
    "COLOURS",
    "DIRECTIONS",
    "SHAPES",
    "SPEEDS",
    "Clip",
    "Scene",
    "caption_words",
    "dusk",
    "held_out_seed",
    "path",
    "render",
    "sample_scene",
    "training_seed",
]
