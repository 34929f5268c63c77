"""Rendered scenes: the same for the same seed, and true to their caption."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from firstframe.errors import FirstFrameError
from firstframe.tiny.scenes import (
    BACKWARDS,
    BUILT_IN,
    CAMERAS,
    COLOURS,
    DIRECTIONS,
    SHAPES,
    SPEEDS,
    Sources,
    caption_words,
    film,
    held_out_seed,
    path,
    render,
    sample_scene,
    sources_in,
    training_scene,
    training_seed,
)
from firstframe.tiny.scenes.sources import source_list
from firstframe.tiny.scenes.unnamed import unnamed_object
from firstframe.tiny.text import unknown_words


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


def test_objects_are_large() -> None:
    """Nothing that is three latents wide keeps its points."""
    diameters = [128 * sample_scene(seed).diameter / 8 for seed in range(200)]
    assert min(diameters) > 5.5 and max(diameters) < 10 and np.mean(diameters) > 7


def test_training_scenes_are_various() -> None:
    scenes = [training_scene(index) for index in range(600)]
    unnamed = [scene for scene in scenes if scene.diameter and scene.unnamed is not None]
    views = [scene for scene in scenes if not scene.diameter]
    assert len(unnamed) > 0.4 * len(scenes) and 0.1 < len(views) / len(scenes) < 0.2
    assert {scene.camera for scene in views} == set(CAMERAS) and all(scene.photograph for scene in views)
    words = {word for scene in unnamed for word in unknown_words(scene.caption)}
    assert words == {"thing", "strange", "lovely", "old"}
    assert all(not unknown_words(scene.caption) for scene in scenes if scene.diameter and scene.unnamed is None)


@pytest.mark.parametrize("seed", range(8))
def test_unnamed_objects_fill_the_circle_and_nothing_else(seed: int) -> None:
    drawn = unnamed_object(seed)
    y, x = np.nonzero(drawn[..., 3] > 0.5)
    reach = np.hypot(y - 127.5, x - 127.5).max() / 127.5
    assert drawn.shape == (256, 256, 4) and drawn.min() >= 0 and drawn.max() <= 1
    assert 0.85 < reach < 1.02
    assert np.array_equal(drawn, unnamed_object(seed))


def test_cut_outs_keep_their_colours(tmp_path: Path) -> None:
    """A red disc of 200 pixels among much that is transparent; files that do not serve are passed over."""
    y, x = np.mgrid[:400, :600]
    disc = (y - 150) ** 2 + (x - 400) ** 2 < 100**2
    pixels = np.dstack([255 * disc, 0 * disc, 0 * disc, 255 * disc]).astype(np.uint8)
    for name, image in {"a": pixels, "thin": pixels * 0, "full": pixels * 0 + 255}.items():
        Image.fromarray(image, "RGBA").save(tmp_path / f"{name}.png")
    seeds = [seed for seed in range(40) if np.random.default_rng(seed).random() < 0.5][:5]
    for seed in seeds:
        drawn = unnamed_object(seed, sorted(tmp_path.iterdir()))
        inside = drawn[..., 3] > 0.5
        assert inside.mean() == pytest.approx(np.pi / 4, abs=0.03)
        assert np.allclose(drawn[inside][:, :3], (1, 0, 0), atol=0.02)


def test_photographs_are_backgrounds_as_they_are(tmp_path: Path) -> None:
    Image.new("RGB", (300, 200), (250, 10, 130)).save(tmp_path / "one.png")
    scene = replace(sample_scene(3), photograph=True, diameter=0.0, camera="zoom in")
    clip = render(scene, num_frames=2, sources=Sources((tmp_path / "one.png",)))
    assert not clip.masks.any() and (clip.frames == (250, 10, 130)).all()
    assert np.abs(clip.flow).max() == pytest.approx(0.012 * 63.5, rel=0.01)


def test_every_source_has_its_licence(tmp_path: Path) -> None:
    assert all(path.exists() for path in BUILT_IN.photographs)
    listed = source_list()
    assert all(source["licence"] for source in listed.values())
    allowed = ("CC-BY-4.0", "CC0", "public domain")
    for source in listed.values():
        for file, author in source.get("files", {}).items():
            assert any(licence in author for licence in allowed) and "SA" not in author.split(",")[-1], file
    with pytest.raises(FirstFrameError, match="openclipart-png"):
        sources_in(tmp_path)


def test_a_film_begins_with_the_middle_of_the_image() -> None:
    canvas = np.random.default_rng(0).random((256, 256, 3)).astype(np.float32)
    still, pan = (film(canvas, camera, num_frames=3) for camera in ("still camera", "pan left"))
    middle = canvas[64:192, 64:192] * 255
    assert np.abs(still.frames[0] - middle).mean() < 60 and np.array_equal(still.frames[0], still.frames[2])
    assert np.array_equal(still.frames[0], pan.frames[0]) and not np.array_equal(pan.frames[0], pan.frames[2])
    assert np.allclose(pan.flow, (1.2, 0), atol=1e-3)
