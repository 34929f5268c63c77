"""Grounds for the scenes: gentle procedural textures and real images, muted so that the thing stands out.

The real images are the ones that scikit-image carries inside its package (public domain or CC0).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from .sources import SKIMAGE_DATA

_IMAGES = ("astronaut", "brick", "chelsea", "coffee", "grass", "gravel", "rocket", "hubble_deep_field")
Image = NDArray[np.float32]


def ground(seed: int, size: int) -> Image:
    """A textured ground.

    Args:
        seed: of the texture's kind, colours and pattern.
        size: side in pixels.

    Returns:
        (size, size, 3) float32 in [0, 1].
    """
    rng = np.random.default_rng(seed)
    pattern = (_clouds, _stripes, _tiles, _image)[rng.integers(4)](rng, size)
    return _muted(rng, pattern)


def photograph(seed: int, size: int, files: Sequence[Path]) -> Image:
    """A random square of one of these photographs as it is, mirrored or not, (size, size, 3) float32 in [0, 1]."""
    rng = np.random.default_rng(seed)
    whole = _opened(files[int(rng.integers(len(files)))])
    side = int(min(whole.shape[:2]) * rng.uniform(0.5, 1.0))
    top, left = (int(rng.integers(extent - side + 1)) for extent in whole.shape[:2])
    crop = whole[top : top + side, left : left + side][:, :: int(rng.choice((-1, 1)))]
    return cv2.resize(np.ascontiguousarray(crop), (size, size), interpolation=cv2.INTER_AREA)


@lru_cache(maxsize=64)
def _opened(file: Path) -> Image:
    """Its shorter side brought to at most 1,024 pixels."""
    with PillowImage.open(file) as image:
        rgb = np.asarray(image.convert("RGB"))
    scale = min(1.0, 1024 / min(rgb.shape[:2]))
    smaller = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return smaller.astype(np.float32) / 255


def _muted(rng: np.random.Generator, pattern: Image) -> Image:
    """Two random, not too saturated colours mixed by the pattern (grey) or tinted over it (colour)."""
    dark, light = rng.uniform(0.05, 0.4, 3), rng.uniform(0.4, 0.75, 3)
    mixed = dark + (light - dark) * pattern
    return mixed.astype(np.float32)


def _clouds(rng: np.random.Generator, size: int) -> Image:
    octaves = [(cells, rng.random((cells, cells), np.float32)) for cells in (4, 8, 16)]
    noise = sum(cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC) / cells for cells, grid in octaves)
    return _stretched(np.asarray(noise))[..., None]


def _stripes(rng: np.random.Generator, size: int) -> Image:
    y, x = np.mgrid[:size, :size] / size
    angle, periods, bend = rng.uniform(0, np.pi), rng.uniform(6, 12), rng.uniform(0, 1.5)
    across = x * np.cos(angle) + y * np.sin(angle) + bend * 0.05 * np.sin(2 * np.pi * 2 * (x - y))
    return (0.5 + 0.5 * np.sin(2 * np.pi * periods * across)).astype(np.float32)[..., None]


def _tiles(rng: np.random.Generator, size: int) -> Image:
    cells = int(rng.integers(7, 14))
    grid = cv2.resize(rng.random((cells, cells, 3), np.float32), (size, size), interpolation=cv2.INTER_NEAREST)
    return cv2.GaussianBlur(grid, (0, 0), size / 200)


def real_crop(rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """A random square of a real image, (size, size, 3) uint8."""
    return np.round(_square(rng, size) * 255).astype(np.uint8)


def _image(rng: np.random.Generator, size: int) -> Image:
    return _stretched(cv2.GaussianBlur(_square(rng, size), (0, 0), size / 170))


def _square(rng: np.random.Generator, size: int) -> Image:
    """A random square of a real image, sometimes with its channels swapped, (size, size, 3) in [0, 1]."""
    image = _real_image(str(rng.choice(_IMAGES)))
    side = int(min(image.shape[:2]) * rng.uniform(0.5, 1.0))
    top, left = (int(rng.integers(extent - side + 1)) for extent in image.shape[:2])
    crop = image[top : top + side, left : left + side, :: int(rng.choice((-1, 1)))]
    return np.asarray(cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA))


@lru_cache(maxsize=len(_IMAGES))
def _real_image(name: str) -> Image:
    file = next(SKIMAGE_DATA.glob(f"{name}.*"))
    return cv2.cvtColor(cv2.imread(str(file), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB).astype(np.float32) / 255


def _stretched(values: Image) -> Image:
    low, high = np.percentile(values, (2, 98))
    return np.clip((values - low) / (high - low), 0, 1).astype(np.float32)
