"""Frames as the integers that encoders take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import FirstFrameError


def check_frames(frames: Tensor) -> None:
    """Raises FirstFrameError where ``frames`` is not (F, H, W, 3)."""
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.numel() == 0:
        raise FirstFrameError(f"a clip is (F, H, W, 3), got shape {tuple(frames.shape)}")


def to_uint8(frames: Tensor) -> Tensor:
    """A clip (F, H, W, 3), uint8 or floats in [0, 1], as uint8 on the CPU. Refuses any other shape."""
    check_frames(frames)
    frames = frames.detach().cpu()
    return frames if frames.dtype == torch.uint8 else (frames.float().clamp(0, 1) * 255).round().to(torch.uint8)


def to_uint16(frames: Tensor) -> NDArray[np.uint16]:
    """The same in 0..65535, with what floats know beyond eight bits."""
    check_frames(frames)
    frames = frames.detach().cpu()
    scaled = frames.float() * 257 if frames.dtype == torch.uint8 else frames.float().clamp(0, 1) * 65535
    return scaled.round().numpy().astype("<u2")


def pictures(frames: Tensor, bits: int = 8, even: bool = False) -> Iterator[NDArray[Any]]:
    """Frame by frame (H, W, 3) of 8 or 16 bits; ``even``: odd sides get their last row or column repeated once."""
    for index in range(len(frames)):
        frame = frames[index : index + 1]
        picture = to_uint16(frame)[0] if bits == 16 else to_uint8(frame)[0].numpy()
        height, width, _ = picture.shape
        yield np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), "edge") if even else picture
