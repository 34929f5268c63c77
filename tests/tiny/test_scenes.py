"""Rendered scenes: the same for the same seed, and true to their caption."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from firstframe.tiny.scenes import (
    BACKWARDS,
    CAMERAS,
    COLOURS,
    DIRECTIONS,
    SHAPES,
    SPEEDS,
    caption_words,
    held_out_seed,
    path,
    render,
    sample_scene,
    training_seed,
)


def test_same_seed_same_clip() -> None:
    first, second = (render(sample_scene(7), num_frames=3) for _ in range(2))
    assert np.array_equal(first.frames, second.frames)
    assert not np.array_equal(first.frames, render(sample_scene(8), num_frames=3).frames)


def test_training_and_held_out_seeds_never_meet() -> None:
    assert not {training_seed(i) for i in range(2000)} & {held_out_seed(i) for i in range(2000)}


def test_captions_are_made_of_known_words_and_say_what_happens() -> None:
    scenes = [sample_scene(seed) for seed in range(300)]
    for scene in scenes:
        words = scene.caption.replace(",", " ,").split()
        assert set(words) <= set(caption_words())
        assert {scene.shape, scene.colour, scene.direction, scene.speed} <= set(words)
    assert {scene.shape for scene in scenes} == set(SHAPES)
    assert {scene.colour for scene in scenes} == set(COLOURS)
    assert {scene.camera for scene in scenes} == set(CAMERAS)


@pytest.mark.parametrize("direction", list(DIRECTIONS))
@pytest.mark.parametrize("speed", list(SPEEDS))
def test_the_thing_goes_where_the_caption_says(direction: str, speed: str) -> None:
    scene = replace(sample_scene(3), direction=direction, speed=speed, camera="still camera", start=(0.0, 0.0))
    masks = render(scene, num_frames=6).masks
    y, x = np.mgrid[:128, :128]
    centres = np.array([[(mask * x).sum(), (mask * y).sum()] / mask.sum() for mask in masks])
    moved = (centres[-1] - centres[0]) / 5
    assert moved == pytest.approx(np.array(DIRECTIONS[direction]) * SPEEDS[speed] * 128, abs=0.05)


@pytest.mark.parametrize("direction", list(DIRECTIONS))
def test_a_clip_played_backwards_is_the_clip_of_its_backward_caption(direction: str) -> None:
    forward = replace(sample_scene(3), direction=direction, camera="still camera", start=(0.1, -0.1))
    end = tuple(x + 4 * v for x, v in zip(forward.start, forward.velocity, strict=True))
    backward = replace(forward, direction=BACKWARDS[direction], start=(end[0], end[1]))
    assert forward.backward_caption == backward.caption
    played = render(forward, num_frames=5).frames[::-1].astype(float)
    assert np.abs(played - render(backward, num_frames=5).frames).max() <= 2


def test_the_camera_goes_backwards_too() -> None:
    said = {camera: replace(sample_scene(3), camera=camera).backward_caption for camera in CAMERAS}
    assert said.pop("turn") is None
    assert {camera: caption and caption.split(", ")[1] for camera, caption in said.items()} == {
        "still camera": "still camera",
        "pan left": "pan right",
        "pan right": "pan left",
        "zoom in": "zoom out",
        "zoom out": "zoom in",
    }


@pytest.mark.parametrize("camera", list(CAMERAS))
def test_the_path_holds_the_thing_and_little_else(camera: str) -> None:
    scene = replace(sample_scene(9), camera=camera)
    covered = path(scene)
    passed = render(scene, with_flow=False).masks.max(0) > 0.01
    assert not (passed & ~covered).any()
    assert passed.sum() > 0.4 * covered.sum()


@pytest.mark.parametrize("camera", list(CAMERAS))
def test_flow_says_where_pixels_go(camera: str) -> None:
    import cv2

    clip = render(replace(sample_scene(12), camera=camera), num_frames=2)
    y, x = np.mgrid[:128, :128].astype(np.float32)
    target = np.stack([x, y], -1) + clip.flow[0]
    found = cv2.remap(clip.frames[1], target[..., 0], target[..., 1], cv2.INTER_LINEAR).astype(float)
    inside = ((target > 1) & (target < 126)).all(-1)
    settled = inside & (cv2.GaussianBlur(clip.masks[0] + clip.masks[1], (0, 0), 3) < 1e-3)
    assert np.abs(found - clip.frames[0])[settled].mean() < 3.0
    assert np.abs(clip.frames[1].astype(float) - clip.frames[0])[clip.masks[0] > 0.99].mean() > 3.0


def test_the_thing_stays_inside_the_image() -> None:
    for seed in range(200):
        scene = sample_scene(seed)
        pan = np.array(CAMERAS[scene.camera][:2])
        end = np.array(scene.start) + 15 * (np.array(scene.velocity) - pan)
        assert np.abs([scene.start, end]).max() <= 0.5 - scene.diameter / 2
