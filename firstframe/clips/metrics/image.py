"""Likeness to the truth, frame by frame."""

from __future__ import annotations

import torch
from kornia.metrics import ssim as ssim_map
from torch import Tensor


def ssim(frames: Tensor, truth: Tensor) -> float:
    """Structural similarity, the mean over frames and channels; 1 = equal.

    As Wang et al. 2004: a Gaussian window of 11 pixels, placed only where it lies inside the image.
    """
    value: Tensor = ssim_map(_planes(frames), _planes(truth), window_size=11, padding="valid").mean()
    return value.item()


def psnr(frames: Tensor, truth: Tensor) -> float:
    """Peak signal to noise ratio in dB, the mean over frames; at most 100, which equal frames get."""
    error = (_planes(frames) - _planes(truth)).square().mean((1, 2, 3)).clamp(min=1e-10)
    return (-10 * torch.log10(error)).mean().item()


def first_frame_ssim(frames: Tensor, image: Tensor) -> float:
    """`ssim` of frame 0 to the image (H, W, 3) that the clip should start with."""
    return ssim(frames[:1], image[None])


def _planes(frames: Tensor) -> Tensor:
    """(F, H, W, 3) -> (F, 3, H, W) in [0, 1]."""
    unit = frames.float() / 255 if frames.dtype == torch.uint8 else frames.float()
    return unit.movedim(-1, 1)
