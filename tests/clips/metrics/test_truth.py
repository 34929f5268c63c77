"""Object and background, each by itself, on scenes whose truth is known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from firstframe.clips.metrics import (
    background_flow,
    background_jump,
    camera_jump,
    object_speed,
    object_ssim,
    silhouette_iou,
)
from firstframe.tiny.scenes import film, held_out_seed, render, sample_scene
from firstframe.tiny.scenes.render import Clip

FRAMES = 5


def scene(**changes: object) -> Clip:
    drawn = replace(sample_scene(held_out_seed(2)), camera="still camera", speed="quickly", start=(0.0, 0.0))
    return render(replace(drawn, **changes), FRAMES)


def tensor(clip: Clip) -> Tensor:
    return torch.from_numpy(clip.frames)


@pytest.fixture(scope="module")
def clip() -> Clip:
    return scene()


def test_speed_is_measured_over_the_true_one(clip: Clip) -> None:
    assert object_speed(tensor(clip), clip.masks, clip.flow) == pytest.approx(1, abs=0.15)
    slow = tensor(scene(speed="slowly"))
    assert object_speed(slow, clip.masks, clip.flow) == pytest.approx(0.5, abs=0.15)
    still = tensor(clip)[:1].expand(FRAMES, -1, -1, -1)
    assert object_speed(still, clip.masks, clip.flow) == pytest.approx(0, abs=0.02)


def test_a_steady_background_does_not_flow_and_a_wavering_one_does(clip: Clip) -> None:
    steady = background_flow(tensor(clip), clip.masks, clip.flow)
    shaken = torch.stack([frame.roll(shift, 1) for frame, shift in zip(tensor(clip), (0, 1, 0, 1, 0), strict=True)])
    assert steady < 0.1 and background_flow(shaken, clip.masks, clip.flow) > 5 * steady


def test_likeness_inside_the_box_sees_the_object_alone(clip: Clip) -> None:
    other = scene(shape="circle", colour="blue")
    assert object_ssim(tensor(clip), tensor(clip), clip.masks) == pytest.approx(1)
    assert object_ssim(tensor(other), tensor(clip), clip.masks) < 0.9
    outside = tensor(clip).clone()
    for frame, mask in zip(outside, torch.from_numpy(clip.masks > 0.01), strict=True):
        frame[~mask.any(1)] = 0
        frame[:, ~mask.any(0)] = 0
    assert object_ssim(outside, tensor(clip), clip.masks) == pytest.approx(1)


def test_iou_of_the_outline() -> None:
    square, background = scene(shape="square", colour="red"), tensor(scene(diameter=0.0))[-1]
    true, mask = tensor(square)[-1], square.masks[-1]
    assert silhouette_iou(true, true, background, mask) > 0.95
    smaller = scene(shape="square", colour="red", diameter=sample_scene(held_out_seed(2)).diameter / 2)
    assert silhouette_iou(tensor(smaller)[-1], true, background, mask) == pytest.approx(0.25, abs=0.1)
    assert silhouette_iou(background, true, background, mask) < 0.1


def test_jump_counts_colour_where_nothing_moves(clip: Clip) -> None:
    assert background_jump(tensor(clip), clip.masks, clip.flow) == pytest.approx(0, abs=0.01)
    brighter = tensor(clip).float() / 255
    brighter[1:] = (brighter[1:] + 0.03).clamp(max=1)
    assert 1 < background_jump(brighter, clip.masks, clip.flow) < 6


def test_a_moving_camera_leaves_no_place_that_stands_still() -> None:
    moving = scene(camera="pan left")
    values = [number(tensor(moving), moving.masks, moving.flow) for number in (background_flow, background_jump)]
    assert all(math.isnan(value) for value in values)


def test_under_a_moving_camera_frame_1_is_brought_back() -> None:
    y, x = np.mgrid[:256, :256] / 6
    canvas = (np.dstack([np.sin(x), np.sin(y), np.sin(x + y)]) / 2 + 0.5).astype(np.float32)
    for camera in ("pan left", "zoom in", "turn"):
        moved = film(canvas, camera, 2)
        still = tensor(moved)[:1].expand(2, -1, -1, -1)
        assert 4 * camera_jump(tensor(moved), moved.flow) < camera_jump(still, moved.flow)
