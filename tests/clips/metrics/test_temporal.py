"""On rendered scenes, where the truth is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from firstframe.clips.metrics import flow_score, measured_direction, optical_flow, warping_error
from firstframe.tiny.scenes import held_out_seed, render, sample_scene
from firstframe.tiny.scenes.render import Clip
from firstframe.tiny.scenes.scene import Scene

COUNT = 40


@pytest.fixture(scope="module")
def scenes() -> list[tuple[Scene, Clip]]:
    drawn = [sample_scene(held_out_seed(index)) for index in range(COUNT)]
    return [(scene, render(scene)) for scene in drawn]


def tensor(clip: Clip) -> torch.Tensor:
    return torch.from_numpy(clip.frames)


def mushy(clip: Clip, seed: int) -> torch.Tensor:
    """Blurred, flickering and grainy, as generated clips are."""
    rng = np.random.default_rng(seed)
    frames = [
        cv2.GaussianBlur(frame, (0, 0), 1.5)
        + rng.normal(0, 3)
        + cv2.GaussianBlur(rng.normal(0, 6, frame.shape), (0, 0), 2)
        for frame in clip.frames
    ]
    return torch.from_numpy(np.clip(frames, 0, 255).astype(np.uint8))


def accuracy(scenes: list[tuple[Scene, Clip]], clips: list[torch.Tensor]) -> float:
    names = [measured_direction(frames).name for frames in clips]
    return float(np.mean([name == scene.direction for name, (scene, _) in zip(names, scenes, strict=True)]))


def test_direction_of_the_truth(scenes):
    assert accuracy(scenes, [tensor(clip) for _, clip in scenes]) >= 0.97


def test_direction_in_bad_images(scenes):
    assert accuracy(scenes, [mushy(clip, seed) for seed, (_, clip) in enumerate(scenes)]) >= 0.9


def test_direction_turns_with_the_image(scenes):
    _, clip = scenes[0]
    frames = tensor(clip)
    forwards = measured_direction(frames)
    backwards, mirrored = measured_direction(frames.flip(0)), measured_direction(frames.flip(2))
    opposite = {"left": "right", "right": "left", "up": "down", "down": "up"}
    assert backwards.name == opposite[forwards.name]
    assert mirrored.dx == pytest.approx(-forwards.dx, abs=0.3)


def test_speed(scenes):
    for scene, clip in scenes[:12]:
        moved = measured_direction(tensor(clip))
        speed = {"slowly": 1.5, "quickly": 3.0}[scene.speed]
        assert np.hypot(moved.dx, moved.dy) == pytest.approx(speed, rel=0.5), scene.caption


def test_what_stands_still_has_no_direction(scenes):
    still = tensor(scenes[0][1])[:1].repeat(8, 1, 1, 1)
    assert measured_direction(still).name == "none"
    assert flow_score(still) == 0 and warping_error(still) == 0


def test_a_camera_alone_has_no_direction():
    rng = np.random.default_rng(0)
    ground = cv2.GaussianBlur(rng.normal(128, 400, (200, 200, 3)), (0, 0), 3).clip(0, 255).astype(np.uint8)
    frames = torch.stack([torch.from_numpy(ground[20:148, 2 * f : 128 + 2 * f]) for f in range(12)])
    assert measured_direction(frames).name == "none"
    assert flow_score(frames) == pytest.approx(2, abs=0.2)


def test_flow_against_the_truth(scenes):
    errors = [np.linalg.norm(optical_flow(tensor(clip)) - clip.flow, axis=-1).mean() for _, clip in scenes[:20]]
    assert np.mean(errors) < 0.3
    scores = [(flow_score(tensor(clip)), np.linalg.norm(clip.flow, axis=-1).mean()) for _, clip in scenes]
    assert np.corrcoef(np.transpose(scores))[0, 1] > 0.9


def test_warping_error_sees_flicker_and_forgives_motion(scenes):
    frames = tensor(scenes[0][1])
    shuffled = frames[torch.tensor([0, 8, 2, 12, 4, 15, 6, 10, 1, 9])]
    flickering = (frames.float() / 255 + 0.1 * (torch.arange(16) % 2)[:, None, None, None]).clamp(0, 1)
    assert warping_error(shuffled) > 2 * warping_error(frames)
    assert warping_error(flickering) == pytest.approx(25.5**2, rel=0.3)  # steps of a tenth of 255
