"""Estimators of optical flow, each with its name: numbers of different ones cannot be compared."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ...clips.metrics.temporal import Array, optical_flow
from ...errors import FirstFrameError
from ...weights.files import load_state_dict

MULTIPLE, LEAST = 8, 128
SMALL_WIDTH = 32


class Flow(Protocol):
    """An estimator. ``name`` stands in every report."""

    @property
    def name(self) -> str:
        """What it is called."""

    def __call__(self, frames: Tensor) -> Array:
        """Frames (F, H, W, 3) to the flow between neighbours (F - 1, H, W, 2), x and y in pixels."""


class Dis:
    """OpenCV's DIS, preset "medium": needs no weights."""

    name = "DIS (OpenCV, medium)"

    def __call__(self, frames: Tensor) -> Array:
        """As :class:`Flow`."""
        return optical_flow(frames)


class Raft:
    """RAFT (arXiv 2003.12039) as torchvision builds it, with weights that the user gives.

    Args:
        path: torchvision's weights of ``raft_large`` or ``raft_small``.
        device: where it is computed.

    Raises:
        FirstFrameError: torchvision is not installed.
        WeightsError: the file does not hold such weights.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        try:
            from torchvision.models.optical_flow import raft_large, raft_small
        except ImportError as error:
            raise FirstFrameError("RAFT needs torchvision: pip install torchvision") from error
        state = load_state_dict(path)
        first = state.get("feature_encoder.convnormrelu.0.weight")
        if first is None:
            raise FirstFrameError(f"{path}: not RAFT's weights in torchvision's names")
        build = raft_small if first.shape[0] == SMALL_WIDTH else raft_large
        self.name = f"RAFT (torchvision {build.__name__}, {path.name})"
        self.network = build(weights=None)
        self.network.load_state_dict(state)
        self.network.to(device).eval()
        self.device = device

    @torch.inference_mode()
    def __call__(self, frames: Tensor) -> Array:
        """As :class:`Flow`. Frames are padded to multiples of 8 and at least 128 pixels, as RAFT needs them."""
        height, width = frames.shape[1:3]
        images = frames.movedim(-1, 1).float().to(self.device) / 127.5 - 1
        padded = functional.pad(images, (0, _missing(width), 0, _missing(height)), mode="replicate")
        flows = [self.network(now[None], then[None])[-1][0] for now, then in pairwise(padded)]
        return np.asarray(torch.stack(flows)[..., :height, :width].movedim(1, -1).cpu().numpy())


def _missing(length: int) -> int:
    return max(LEAST, -(-length // MULTIPLE) * MULTIPLE) - length
