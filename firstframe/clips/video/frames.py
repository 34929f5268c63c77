"""Frames as the integers that encoders take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import FirstFrameError

MAX_CLIP_PIXELS = 500_000_000
"""Width times height times frames of the largest clip that is read: 240 frames of 1920 x 1080, 1.5 GB."""


def check_frames(frames: Tensor) -> None:
    """Raises FirstFrameError where ``frames`` is not (F, H, W, 3), uint8 or floats without NaN."""
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.numel() == 0:
        raise FirstFrameError(f"a clip is (F, H, W, 3), got shape {tuple(frames.shape)}")
    if frames.dtype != torch.uint8 and not frames.is_floating_point():
        raise FirstFrameError(f"a clip is uint8 or floats in [0, 1], got {frames.dtype}")
    for index, frame in enumerate(frames):
        if frame.isnan().any():
            raise FirstFrameError(f"frame {index} of the clip has values that are not a number (NaN): see what made it")


def to_uint8(frames: Tensor) -> Tensor:
    """A clip (F, H, W, 3), uint8 or floats in [0, 1], as uint8 on the CPU. Refuses any other."""
    check_frames(frames)
    frames = frames.detach().cpu()
    return frames if frames.dtype == torch.uint8 else (frames.float().clamp(0, 1) * 255).round().to(torch.uint8)


def to_uint16(frames: Tensor) -> NDArray[np.uint16]:
    """The same in 0..65535, with what floats know beyond eight bits."""
    check_frames(frames)
    frames = frames.detach().cpu()
    scaled = frames.float() * 257 if frames.dtype == torch.uint8 else frames.float().clamp(0, 1) * 65535
    return scaled.round().numpy().astype("<u2")


def images(frames: Tensor, bits: int = 8, even: bool = False) -> Iterator[NDArray[Any]]:
    """Frame by frame (H, W, 3) of 8 or 16 bits; ``even``: odd sides get their last row or column repeated once."""
    for index in range(len(frames)):
        frame = frames[index : index + 1]
        image = to_uint16(frame)[0] if bits == 16 else to_uint8(frame)[0].numpy()
        height, width, _ = image.shape
        yield np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), "edge") if even else image


def gather(frames: Iterable[NDArray[np.uint8]]) -> Tensor:
    """Frames (H, W, 3) as they are read, to one clip.

    Returns:
        (F, H, W, 3) uint8.

    Raises:
        FirstFrameError: there is none, two differ in size, or all together have more than `MAX_CLIP_PIXELS`.
    """
    pixels, shape = bytearray(), (0, 0, 3)
    for index, frame in enumerate(frames):
        if index and frame.shape != shape:
            raise FirstFrameError(f"frame {index} is {_size(frame.shape)}, those before are {_size(shape)}")
        shape = frame.shape
        pixels += frame.tobytes()
        if len(pixels) > 3 * MAX_CLIP_PIXELS:
            raise FirstFrameError(
                f"more than {MAX_CLIP_PIXELS // 10**6} million pixels in {index + 1} frames of {_size(shape)}: "
                "make it shorter or smaller"
            )
    if not pixels:
        raise FirstFrameError("it holds no frame")
    return torch.frombuffer(pixels, dtype=torch.uint8).reshape(-1, *shape)


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]}"
