"""Objects that no word describes: random outlines with random skins, and cut-outs of drawings.

What moves is as various as possible here, so that a model has to look at the image to know it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from .sprite import OUTLINES, SIDE, to_canvas

_CUTOUT_SHARE = 0.5
_TRIES = 20
_MOST_PIXELS = 4_000_000
_COVERAGE = (0.25, 0.95)  # of its bounding box by a cut-out
Image = NDArray[np.float32]


def unnamed_object(seed: int, cutouts: Sequence[Path] = ()) -> Image:
    """An object that fills the unit circle of a square canvas.

    Args:
        seed: of everything about it.
        cutouts: files of images with transparency, of which half of the objects are taken.

    Returns:
        (256, 256, 4) float32 in [0, 1]: colour (not premultiplied) and coverage.
    """
    rng = np.random.default_rng(seed)
    if cutouts and rng.random() < _CUTOUT_SHARE and (cutout := _cutout(rng, cutouts)) is not None:
        return cutout
    return _drawn(rng)


def _cutout(rng: np.random.Generator, files: Sequence[Path]) -> Image | None:
    """The first suitable one of a few random files."""
    for index in rng.integers(len(files), size=_TRIES):
        pixels = _opened(files[index])
        if pixels is not None:
            return _centred(pixels[:, :: int(rng.choice((-1, 1)))])
    return None


def _opened(file: Path) -> NDArray[np.uint8] | None:
    """A cut-out, cropped to what is opaque; None where it is too thin, too full, too small or too large."""
    with PillowImage.open(file) as image:
        if image.width * image.height > _MOST_PIXELS:
            return None
        image.thumbnail((2 * SIDE, 2 * SIDE))
        pixels = np.asarray(image.convert("RGBA"))
    opaque = pixels[..., 3] > 127
    if not opaque.any():
        return None
    rows, columns = (np.flatnonzero(opaque.any(axis)) for axis in (1, 0))
    cropped = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    coverage = (cropped[..., 3] > 127).mean()
    short, long = sorted(cropped.shape[:2])
    return cropped if _COVERAGE[0] < coverage < _COVERAGE[1] and short > SIDE // 4 and long < 2.5 * short else None


def _centred(pixels: NDArray[np.uint8]) -> Image:
    """On the square canvas, its farthest opaque pixel on the unit circle."""
    values = pixels.astype(np.float32) / 255
    height, width = values.shape[:2]
    y, x = np.nonzero(values[..., 3] > 0.5)
    reach = np.hypot(y - (height - 1) / 2, x - (width - 1) / 2).max()
    scale = (SIDE / 2 - 1) / reach
    view = np.array([[scale, 0, (SIDE - scale * (width - 1)) / 2], [0, scale, (SIDE - scale * (height - 1)) / 2]])
    values[..., :3] *= values[..., 3:]
    placed = cv2.warpAffine(values, view, (SIDE, SIDE), flags=cv2.INTER_AREA)
    return np.dstack([placed[..., :3] / np.maximum(placed[..., 3:], 1e-4), placed[..., 3]]).clip(0, 1)


def _drawn(rng: np.random.Generator) -> Image:
    outline = to_canvas(_outline(rng))
    coverage = np.zeros((SIDE, SIDE), np.uint8)
    cv2.fillPoly(coverage, [outline], 255)
    paint = _skin(rng)
    for _ in range(rng.integers(0, 4)):
        centre, radius = rng.integers(SIDE // 4, 3 * SIDE // 4, 2).tolist(), int(rng.integers(8, 40))
        cv2.circle(paint, centre, radius, _colour(rng).tolist(), -1, cv2.LINE_AA)
    if rng.random() < 0.6:
        dark = rng.uniform(0, 0.3, 3).tolist()
        cv2.polylines(paint, [outline], True, dark, int(rng.integers(6, 24)), cv2.LINE_AA)
    return np.dstack([paint, coverage.astype(np.float32) / 255])


def _outline(rng: np.random.Generator) -> NDArray[np.float64]:
    kind = rng.random()
    if kind < 0.25:
        return OUTLINES[str(rng.choice(list(OUTLINES)))]()
    if kind < 0.6:
        return _polar(rng.uniform(0.35, 1.0, int(rng.integers(4, 12))))
    angle = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    waves = [rng.uniform(0, 0.35) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in range(1, 6)]
    return _polar(1 + np.sum(waves, 0))


def _polar(radii: NDArray[np.float64]) -> NDArray[np.float64]:
    """Corners at these distances from the centre, the farthest at 1."""
    angle = 2 * np.pi * np.arange(len(radii)) / len(radii)
    return (radii / radii.max())[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)


def _skin(rng: np.random.Generator) -> Image:
    """Two colours, mixed by a flat, shaded, striped, spotted or cloudy pattern."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32) / SIDE
    angle, periods = rng.uniform(0, 2 * np.pi), rng.uniform(2, 6)
    along = x * np.cos(angle) + y * np.sin(angle)
    patterns = (
        lambda: np.zeros_like(x),
        lambda: along - along.min(),
        lambda: (np.sin(2 * np.pi * periods * along) > 0).astype(np.float32),
        lambda: (np.sin(2 * np.pi * periods * x) * np.sin(2 * np.pi * periods * y) > 0).astype(np.float32),
        lambda: cv2.resize(rng.random((5, 5), np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC),
    )
    pattern = np.clip(patterns[rng.integers(len(patterns))](), 0, 1)[..., None]
    return np.ascontiguousarray(_colour(rng) * (1 - pattern) + _colour(rng) * pattern, np.float32)


def _colour(rng: np.random.Generator) -> NDArray[np.float64]:
    return rng.uniform(0.02, 1.0, 3)
