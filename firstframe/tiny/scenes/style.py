"""Another look for rendered scenes: dusk, when everything is violet and darker, and light comes from the horizon."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_LIGHT = np.array([0.8, 0.55, 0.7], np.float32)  # share of red, green and blue that is left
_SKY = np.array([70, 10, 60], np.float32)  # added at the top; half as much at the bottom


def dusk(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Frames (F, H, W, 3) uint8 in that look; colours stay apart."""
    height = frames.shape[1]
    glow = np.linspace(1.0, 0.5, height, dtype=np.float32)[:, None, None] * _SKY
    return np.round(frames * _LIGHT + glow).clip(0, 255).astype(np.uint8)
