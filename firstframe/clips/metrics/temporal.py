"""How a clip moves: optical flow by OpenCV (DIS, "medium"), and numbers made of it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..video import to_uint8

Array = NDArray[np.float32]

_SPAN = 2  # directions are measured over two frames: noise matters half as much, and little is hidden yet
_CAMERA_TOLERANCE = 0.6  # pixels per frame within which a point moves with the camera
_MOVES = 0.4  # pixels per frame from which on a pixel moves by itself
_STANDS = 0.2  # pixels per frame below which the moving thing as a whole stands still
_LEAST_SHARE = 0.01  # of all structure must move by itself


@dataclass(frozen=True)
class Direction:
    """Where the moving thing goes: "left", "right", "up", "down" or "none", and its pixels per frame."""

    name: str
    dx: float
    dy: float


def optical_flow(frames: Tensor, span: int = 1) -> Array:
    """(F - span, H, W, 2) in pixels (x, y): where each pixel of frame f is found in frame f + span."""
    return _flow(_grey(frames), span)


def flow_score(frames: Tensor, flow: Array | None = None) -> float:
    """Mean length of the flow between neighbouring frames, in pixels per frame; a still has 0.

    ``flow`` (F - 1, H, W, 2) is another estimator's; that of :func:`optical_flow` if None.
    """
    return float(np.linalg.norm(optical_flow(frames) if flow is None else flow, axis=-1).mean())


def warping_error(frames: Tensor, flow: Array | None = None) -> float:
    """Instability: mean squared error between a frame and its next one warped back by the flow.

    Colours count from 0 to 255, so that 10 is an error of about three levels; the I2V-Adapter paper's tables
    show such numbers. Pixels whose flow leaves the frame do not count; nothing else is masked, so that what
    motion uncovers adds a little. A still has 0. ``flow`` as in :func:`flow_score`.
    """
    flow = optical_flow(frames) if flow is None else flow
    pixels = to_uint8(frames).numpy().astype(np.float32)
    pairs = zip(pixels, pixels[1:], flow, strict=False)
    return float(np.mean([_warped_difference(*pair) for pair in pairs]))


def measured_direction(frames: Tensor) -> Direction:
    """The direction of what moves against the ground, and its mean speed.

    One similarity transform (pan, zoom, turn at an even pace), fitted to the whole clip's flow by RANSAC,
    stands for the camera and is subtracted. What still moves, by 0.4 pixels per frame or more, is averaged,
    each pixel weighted by how well it can be tracked (the smaller eigenvalue of its structure tensor): flow
    that was only guessed over smooth areas counts little. "none" where that is a hundredth of the structure
    or less, or slower than 0.2 pixels per frame. The thing must cover less than half of the frame.
    """
    grey = _grey(frames)
    flow = _flow(grey, _SPAN)
    own = flow - _camera_flow(flow)
    moves = np.linalg.norm(own, axis=-1) > _MOVES * _SPAN
    structure = np.stack([_trackability(frame) for frame in grey[: len(flow)]])
    if (moves * structure).sum() <= _LEAST_SHARE * structure.sum():
        return Direction("none", 0.0, 0.0)
    dx, dy = np.average(own.reshape(-1, 2), axis=0, weights=(moves * structure).ravel()) / _SPAN
    return Direction(_name(dx, dy), float(dx), float(dy))


def _name(dx: float, dy: float) -> str:
    if max(abs(dx), abs(dy)) < _STANDS:
        return "none"
    if abs(dx) > abs(dy):
        return "right" if dx > 0 else "left"
    return "down" if dy > 0 else "up"


def _grey(frames: Tensor) -> list[NDArray[np.uint8]]:
    return [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in to_uint8(frames).numpy()]


def _flow(grey: list[NDArray[np.uint8]], span: int) -> Array:
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return np.stack([dis.calc(now, later, None) for now, later in zip(grey, grey[span:], strict=False)])


def _warped_difference(now: Array, later: Array, flow: Array) -> float:
    height, width = now.shape[:2]
    x, y = np.moveaxis(_grid(height, width) + flow, -1, 0)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    warped = cv2.remap(later, x, y, cv2.INTER_LINEAR)
    return float(np.square(warped - now)[inside].mean())


def _grid(height: int, width: int) -> Array:
    """(H, W, 2): every pixel's own x and y."""
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)


def _camera_flow(flow: Array) -> Array:
    """(H, W, 2): what the camera alone would do to every pixel."""
    grid = _grid(*flow.shape[1:3])
    sparse = np.broadcast_to(grid, flow.shape)[:, 2::4, 2::4]
    moved = sparse + flow[:, 2::4, 2::4]
    cv2.setRNGSeed(0)
    affine, _ = cv2.estimateAffinePartial2D(
        sparse.reshape(-1, 2),
        moved.reshape(-1, 2),
        ransacReprojThreshold=_CAMERA_TOLERANCE * _SPAN,
        maxIters=500,
    )
    return np.asarray(grid @ affine[:, :2].T + affine[:, 2] - grid, np.float32)


def _trackability(grey: NDArray[np.uint8]) -> Array:
    smooth = cv2.GaussianBlur(grey, (0, 0), 1)
    return np.asarray(cv2.cornerMinEigenVal(smooth, 7)).clip(0)
