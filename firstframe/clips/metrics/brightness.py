"""Whether a clip is brighter or of more contrast than it should be: what high guidance scales do."""

from __future__ import annotations

import torch
from kornia.color import rgb_to_grayscale
from torch import Tensor


def brightness_drift(frames: Tensor, truth: Tensor) -> float:
    """How much brighter the frames are than the true ones, the mean over frames; of 255 levels."""
    return 255.0 * (_grey(frames).mean() - _grey(truth).mean()).item()


def contrast_drift(frames: Tensor, truth: Tensor) -> float:
    """How much larger the standard deviation of a frame's brightness is than the true one's; 0.1 is a tenth more."""
    return (_grey(frames).std((1, 2, 3)).mean() / _grey(truth).std((1, 2, 3)).mean()).item() - 1.0


def _grey(frames: Tensor) -> Tensor:
    """(F, H, W, 3) -> (F, 1, H, W) in [0, 1]."""
    unit = frames.float() / 255 if frames.dtype == torch.uint8 else frames.float()
    return rgb_to_grayscale(unit.movedim(-1, 1))
