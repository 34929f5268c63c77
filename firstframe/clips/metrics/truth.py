"""A clip against the rendered scene that it should be: its object and its background, each by itself.

Pixel clips are (F, H, W, 3), uint8 or floats in [0, 1]; masks (F, H, W) in [0, 1] cover the object, and the true flow
(F-1, H, W, 2) is in pixels (x, y) from frame to frame.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from kornia.color import rgb_to_lab
from numpy.typing import NDArray
from torch import Tensor

from .image import ssim
from .temporal import optical_flow

Array = NDArray[np.float32]
_STANDS = 0.05  # pixels per frame below which a place truly stands still
_NEAR_OBJECT = 9  # pixels around the object that count neither as object nor as background
_LEAST_SIDE = 16  # pixels of a box
_PALETTE = 4  # colours that stand for the object's look


def object_speed(frames: Tensor, masks: Array, flow: Array) -> float:
    """How fast the object moves where it truly moves to: 1 is the true speed, 0 stands still.

    The mean optical flow inside the true mask, along the true one, over the true one.
    """
    measured = optical_flow(frames)
    inside = [mask > 0.5 for mask in masks[:-1]]
    own, true = (
        np.stack([of[place].mean(0) for of, place in zip(all_of, inside, strict=True)]) for all_of in (measured, flow)
    )
    return float((own * true).sum() / np.square(true).sum())


def background_flow(frames: Tensor, masks: Array, flow: Array) -> float:
    """Mean length of the flow where nothing moves, in pixels per frame: 0 is steady. NaN where everything moves."""
    still = _still(masks, flow)
    return float(np.linalg.norm(optical_flow(frames), axis=-1)[still].mean()) if still.any() else float("nan")


def object_ssim(frames: Tensor, truth: Tensor, masks: Array) -> float:
    """`ssim` inside the box around the true object, the mean over frames."""
    boxes = [_box(mask) for mask in masks]
    return float(
        np.mean([ssim(frames[f : f + 1][:, y, x], truth[f : f + 1][:, y, x]) for f, (y, x) in enumerate(boxes)])
    )


def silhouette_iou(frame: Tensor, truth: Tensor, background: Tensor, mask: Array) -> float:
    """Intersection over union of the object's outline in a frame with the true one, 0 to 1.

    A pixel belongs to the object where its colour is nearer to one of the true object's colours than to the true
    background behind it (CIELAB).

    Args:
        frame, truth, background: (H, W, 3); the background without the object.
        mask: (H, W), of the true object.
    """
    seen, true, behind = (_lab(image[None])[0].numpy() for image in (frame, truth, background))
    inside = mask > 0.5
    cv2.setRNGSeed(0)
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 20, 0.5)
    _, _, palette = cv2.kmeans(np.float32(true[inside]), _PALETTE, None, stop, 1, cv2.KMEANS_PP_CENTERS)
    to_object = np.linalg.norm(seen[:, :, None] - palette, axis=-1).min(-1)
    found = to_object < np.linalg.norm(seen - behind, axis=-1)
    found = cv2.medianBlur(found.astype(np.uint8), 5) > 0
    return float((found & inside).sum() / (found | inside).sum())


def background_jump(frames: Tensor, masks: Array, flow: Array) -> float:
    """Mean colour difference (CIE76) from frame 0 to frame 1 where nothing moves. NaN where everything moves."""
    still = _still(masks[:2], flow[:1])[0]
    first, second = _lab(frames[:2])
    difference = (first - second).norm(dim=-1).numpy()
    return float(difference[still].mean()) if still.any() else float("nan")


def camera_jump(frames: Tensor, flow: Array) -> float:
    """:func:`background_jump` under a moving camera: frame 1 is brought back by the true flow before it is compared.

    Args:
        frames: F >= 2.
        flow: (F-1, H, W, 2), of a scene without an object.
    """
    first, second = _lab(frames[:2]).numpy()
    height, width = first.shape[:2]
    target = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1) + flow[0]
    inside = ((target >= 0) & (target <= (width - 1, height - 1))).all(-1)
    brought = cv2.remap(second, np.float32(target[..., 0]), np.float32(target[..., 1]), cv2.INTER_LINEAR)
    return float(np.linalg.norm(brought - first, axis=-1)[inside].mean())


def _still(masks: Array, flow: Array) -> NDArray[np.bool_]:
    """(F-1, H, W): places with neither object nor true motion."""
    around = np.ones((2 * _NEAR_OBJECT + 1,) * 2, np.uint8)
    near = np.stack([cv2.dilate((mask > 0.01).astype(np.uint8), around) > 0 for mask in masks])
    return (np.linalg.norm(flow, axis=-1) < _STANDS) & ~near[:-1] & ~near[1:]


def _box(mask: Array) -> tuple[slice, slice]:
    """Rows and columns of the object, at least _LEAST_SIDE of each."""
    return _span(np.any(mask > 0.01, axis=1)), _span(np.any(mask > 0.01, axis=0))


def _span(covered: NDArray[np.bool_]) -> slice:
    places = np.flatnonzero(covered)
    low, high = (places[0], places[-1] + 1) if len(places) else (0, 0)
    low = max(0, min(low, len(covered) - _LEAST_SIDE))
    return slice(int(low), int(max(high, low + _LEAST_SIDE)))


def _lab(frames: Tensor) -> Tensor:
    """(F, H, W, 3) to CIELAB of the same shape."""
    unit = frames.float() / 255 if frames.dtype == torch.uint8 else frames.float()
    return rgb_to_lab(unit.movedim(-1, 1)).movedim(1, -1)
