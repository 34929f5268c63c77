"""Captioned scenes with known motion, rendered from a seed: data that anyone can make again."""

from .render import Clip, path, render
from .scene import BACKWARDS, CAMERAS, COLOURS, DIRECTIONS, SHAPES, SPEEDS, Scene, caption_words, sample_scene
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
    "path",
    "render",
    "sample_scene",
]
