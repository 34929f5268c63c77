"""Which scenes a training may see: those of even seeds."""

from __future__ import annotations


def training_seed(index: int) -> int:
    """Seed of the training's scene ``index``."""
    return 2 * index


def held_out_seed(index: int) -> int:
    """Seed of a scene that no training saw."""
    return 2 * index + 1
