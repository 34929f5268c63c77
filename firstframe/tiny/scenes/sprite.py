"""The thing that moves: a coloured shape with an outline and a soft shade, drawn once per scene."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE = 256  # drawn large, so that every later warp only shrinks it
_ANGLES = np.linspace(0, 2 * np.pi, 96, endpoint=False)


def sprite(shape: str, colour: tuple[int, int, int]) -> NDArray[np.float32]:
    """The shape, filling the unit circle of a square canvas.

    Returns:
        (256, 256, 4) float32 in [0, 1]: colour (not premultiplied) and coverage.
    """
    outline = to_canvas(OUTLINES[shape]())
    coverage = np.zeros((SIDE, SIDE), np.uint8)
    cv2.fillPoly(coverage, [outline], 255)
    paint = _shaded(colour)
    cv2.polylines(paint, [outline], True, (0.06, 0.06, 0.06), SIDE // 14, cv2.LINE_AA)
    if shape == "fish":
        cv2.circle(paint, (int(SIDE * 0.26), int(SIDE * 0.44)), SIDE // 22, (0.05, 0.05, 0.05), -1, cv2.LINE_AA)
    return np.dstack([paint, coverage.astype(np.float32) / 255])


def _shaded(colour: tuple[int, int, int]) -> NDArray[np.float32]:
    """Flat colour, a little lighter at the top left."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    light = (1.12 - 0.24 * (x + y) / 2)[..., None]
    return np.clip(np.asarray(colour, np.float32) / 255 * light, 0, 1).astype(np.float32)


def to_canvas(points: NDArray[np.float64]) -> NDArray[np.int32]:
    return np.round((points * 0.5 + 0.5) * (SIDE - 1)).astype(np.int32)


def _polygon(corners: int, turn: float = -np.pi / 2) -> NDArray[np.float64]:
    angle = turn + 2 * np.pi * np.arange(corners) / corners
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def _star() -> NDArray[np.float64]:
    return _polygon(10) * np.where(np.arange(10) % 2, 0.45, 1.0)[:, None]


def _heart() -> NDArray[np.float64]:
    x = 16 * np.sin(_ANGLES) ** 3
    y = -(13 * np.cos(_ANGLES) - 5 * np.cos(2 * _ANGLES) - 2 * np.cos(3 * _ANGLES) - np.cos(4 * _ANGLES))
    return np.stack([x, y], 1) / 17


def _fish() -> NDArray[np.float64]:
    body = np.stack([0.62 * np.cos(_ANGLES) - 0.36, 0.55 * np.sin(_ANGLES)], 1)
    body = body[np.abs(_ANGLES) > 0.3]
    body = body[_ANGLES[np.abs(_ANGLES) > 0.3] < 2 * np.pi - 0.3]
    tail = np.array([[0.95, -0.55], [0.78, 0.0], [0.95, 0.55]])
    return np.concatenate([body, tail])


OUTLINES = {
    "circle": lambda: np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], 1) * 0.9,
    "square": lambda: _polygon(4, np.pi / 4),
    "triangle": lambda: _polygon(3),
    "star": _star,
    "heart": _heart,
    "fish": _fish,
}
