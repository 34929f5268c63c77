"""Scenes to frames, with the truth that goes with them: the thing's mask and the optical flow."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .scene import CAMERAS, COLOURS, Scene
from .sources import BUILT_IN, Sources
from .sprite import sprite
from .texture import ground, photograph
from .unnamed import unnamed_object

GROUND_SIDES = 2.0
"""The background reaches this many image sides, mirrored beyond."""
_NOTHING = np.zeros((2, 2, 4), np.float32)


@dataclass(frozen=True)
class Clip:
    """A rendered scene.

    Attributes:
        frames: (F, H, W, 3) uint8, RGB.
        masks: (F, H, W) float32 in [0, 1], coverage by the thing.
        flow: (F-1, H, W, 2) float32, pixels (x, y): where each pixel of frame f is found in frame f+1.
    """

    frames: NDArray[np.uint8]
    masks: NDArray[np.float32]
    flow: NDArray[np.float32]


def render(
    scene: Scene, num_frames: int = 16, size: int = 128, with_flow: bool = True, sources: Sources = BUILT_IN
) -> Clip:
    """Render a scene.

    Args:
        scene: what to draw.
        num_frames: F.
        size: side of the square image in pixels.
        with_flow: compute the true flow too (an empty array otherwise).
        sources: of photographs and cut-outs, where the scene has any.
    """
    side = int(size * GROUND_SIDES)
    canvas = photograph(scene.ground, side, sources.photographs) if scene.photograph else ground(scene.ground, side)
    return _filmed(scene, canvas, _object(scene, sources), num_frames, size, with_flow)


def film(canvas: NDArray[np.float32], camera: str, num_frames: int = 16, size: int = 128) -> Clip:
    """An image under one of CAMERAS, without an object. Frame 0 shows its middle, ``1 / GROUND_SIDES`` of each side.

    Args:
        canvas: (side, side, 3) float32 in [0, 1].
        camera: what the camera does.
        num_frames: F.
        size: side of the frames in pixels.
    """
    scene = Scene("", "", "left", "slowly", camera, (0.0, 0.0), diameter=0.0, tilt=0.0, ground=0)
    return _filmed(scene, canvas, _NOTHING, num_frames, size, with_flow=True)


def _filmed(
    scene: Scene,
    canvas: NDArray[np.float32],
    thing: NDArray[np.float32],
    num_frames: int,
    size: int,
    with_flow: bool,
) -> Clip:
    views = [_world_to_image(scene, f, size) for f in range(num_frames)]
    poses = [_thing_to_world(scene, f) for f in range(num_frames)]
    drawn = [_draw(canvas, thing, view, pose, size) for view, pose in zip(views, poses, strict=True)]
    frames, masks = (np.stack(part) for part in zip(*drawn, strict=True))
    flow = [_flow(views, poses, masks, f, size) for f in range(num_frames - 1)] if with_flow else []
    return Clip(np.round(frames * 255).astype(np.uint8), masks, np.asarray(flow, np.float32))


def _object(scene: Scene, sources: Sources) -> NDArray[np.float32]:
    if not scene.diameter:
        return _NOTHING
    if scene.unnamed is None:
        return sprite(scene.shape, COLOURS[scene.colour])
    return unnamed_object(scene.unnamed, sources.cutouts)


def path(scene: Scene, num_frames: int = 16, size: int = 128) -> NDArray[np.bool_]:
    """Where the thing is in any frame: (size, size) bool, discs around it that hold it with a little to spare."""
    y, x = np.mgrid[:size, :size]
    covered = np.zeros((size, size), np.bool_)
    for frame in range(num_frames):
        view = _world_to_image(scene, frame, size)
        column, row = (view @ _thing_to_world(scene, frame))[:2, 2]
        radius = 1.25 * scene.diameter / 2 * np.linalg.norm(view[:2, 0])
        covered |= (x - column) ** 2 + (y - row) ** 2 < radius**2
    return covered


def _world_to_image(scene: Scene, frame: int, size: int) -> NDArray[np.float64]:
    """3x3 affine: world (image sides from the centre) to pixels of this frame."""
    pan_x, pan_y, zoom, turn = CAMERAS[scene.camera]
    scale, angle = zoom**frame * size, np.deg2rad(-turn * frame)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    centre = (size - 1) / 2
    rotate = np.array([[cos, -sin, centre], [sin, cos, centre], [0, 0, 1]])
    return rotate @ _translation(-pan_x * frame, -pan_y * frame)


def _thing_to_world(scene: Scene, frame: int) -> NDArray[np.float64]:
    """3x3 affine: the thing's unit circle to world."""
    radius, angle = scene.diameter / 2, np.deg2rad(scene.tilt)
    cos, sin = radius * np.cos(angle), radius * np.sin(angle)
    (x, y), (vx, vy) = scene.start, scene.velocity
    return np.array([[cos, -sin, x + vx * frame], [sin, cos, y + vy * frame], [0, 0, 1]])


def _translation(x: float, y: float) -> NDArray[np.float64]:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])


def _canvas_affine(side: int, extent: float) -> NDArray[np.float64]:
    """3x3 affine: pixels of a canvas to coordinates in [-extent/2, extent/2]."""
    return np.array([[extent / side, 0, -extent / 2], [0, extent / side, -extent / 2], [0, 0, 1]])


def _draw(
    canvas: NDArray[np.float32],
    thing: NDArray[np.float32],
    view: NDArray[np.float64],
    pose: NDArray[np.float64],
    size: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    ground_view = view @ _canvas_affine(canvas.shape[0], GROUND_SIDES)
    thing_view = view @ pose @ _canvas_affine(thing.shape[0], 2.0)
    back = cv2.warpAffine(canvas, ground_view[:2], (size, size), borderMode=cv2.BORDER_REFLECT_101)
    front = _warp_supersampled(thing, thing_view, size)
    alpha = front[..., 3:]
    return front[..., :3] + back * (1 - alpha), front[..., 3]


def _warp_supersampled(thing: NDArray[np.float32], view: NDArray[np.float64], size: int) -> NDArray[np.float32]:
    """Premultiplied, warped at three times the size and averaged down: clean edges at any position."""
    premultiplied = np.dstack([thing[..., :3] * thing[..., 3:], thing[..., 3]])
    larger = np.array([[3, 0, 1], [0, 3, 1], [0, 0, 1.0]]) @ view
    warped = cv2.warpAffine(premultiplied, larger[:2], (3 * size, 3 * size), flags=cv2.INTER_LINEAR)
    return cv2.resize(warped, (size, size), interpolation=cv2.INTER_AREA)


def _flow(
    views: list[NDArray[np.float64]],
    poses: list[NDArray[np.float64]],
    masks: NDArray[np.float32],
    frame: int,
    size: int,
) -> NDArray[np.float32]:
    y, x = np.mgrid[:size, :size].astype(np.float64)
    pixels = np.stack([x, y, np.ones_like(x)], -1)
    moved = pixels @ (views[frame + 1] @ np.linalg.inv(views[frame])).T
    on_thing = masks[frame] > 0.5
    if on_thing.any():
        front = views[frame + 1] @ poses[frame + 1] @ np.linalg.inv(views[frame] @ poses[frame])
        moved[on_thing] = pixels[on_thing] @ front.T
    return (moved - pixels)[..., :2].astype(np.float32)
