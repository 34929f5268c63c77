"""Captioned scenes with known motion, rendered from a seed: data that anyone can make again."""

from .render import GROUND_SIDES, Clip, film, path, render
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
from .sources import BUILT_IN, Sources, sources_in
from .style import dusk
from .variety import training_scene

__all__ = [
    "BACKWARDS",
    "BUILT_IN",
    "CAMERAS",
    "COLOURS",
    "DIRECTIONS",
    "GROUND_SIDES",
    "SHAPES",
    "SPEEDS",
    "Clip",
    "Scene",
    "Sources",
    "caption_words",
    "dusk",
    "film",
    "held_out_seed",
    "path",
    "render",
    "sample_scene",
    "sources_in",
    "training_scene",
    "training_seed",
]
