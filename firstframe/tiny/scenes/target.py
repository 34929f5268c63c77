"""Scenes that no training saw, and the rendered clips that a sampled clip should resemble."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from .render import Clip, render
from .scene import DIRECTIONS, Scene, held_out_seed, sample_scene
from .style import dusk

Look = Literal["plain", "dusk"]
ACTIONS = (
    *((direction, "slowly") for direction in DIRECTIONS),
    *((direction, "quickly") for direction in ("left", "right")),
)
_NEAR = 0.1  # share of its distance from the centre that an object keeps


@dataclass(frozen=True)
class Target:
    """A scene to animate: its seed, what happens in it, for how many frames, and its look."""

    seed: int
    scene: Scene
    num_frames: int
    look: Look = "plain"

    @property
    def frames(self) -> Tensor:
        """The rendered scene (F, H, W, 3) in [0, 1]."""
        pixels = self.clip.frames
        return torch.from_numpy(dusk(pixels) if self.look == "dusk" else pixels).float() / 255

    @property
    def clip(self) -> Clip:
        """The scene with masks and true flow, not at dusk; the last few are kept."""
        return _rendered(self.scene, self.num_frames)

    @property
    def last_background(self) -> Tensor:
        """The last frame without the object, (H, W, 3) in [0, 1]."""
        pixels = render(replace(self.scene, diameter=0.0), self.num_frames, with_flow=False).frames[-1:]
        return torch.from_numpy(dusk(pixels) if self.look == "dusk" else pixels)[0].float() / 255

    @property
    def image(self) -> Tensor:
        """Frame 0 as (1, 3, H, W)."""
        return self.frames[:1].movedim(-1, 1)


def held_out_targets(count: int, seed: int, num_frames: int, look: Look = "plain") -> Iterator[Target]:
    """``count`` scenes, at most 10,000, which differ for every seed and occur in no training."""
    for scene_seed in _seeds(count, seed):
        yield Target(scene_seed, sample_scene(scene_seed), num_frames, look)


def action_targets(count: int, seed: int, num_frames: int) -> Iterator[list[Target]]:
    """For each of ``count`` images, what it becomes under each of ACTIONS.

    The images are those of `held_out_targets` with the object near the centre, so that it can move in any
    direction; the camera is still.
    """
    for scene_seed in _seeds(count, seed):
        scene = sample_scene(scene_seed)
        x, y = (_NEAR * place for place in scene.start)
        centred = replace(scene, start=(x, y), camera="still camera")
        yield [
            Target(scene_seed, replace(centred, direction=direction, speed=speed), num_frames)
            for direction, speed in ACTIONS
        ]


def _seeds(count: int, seed: int) -> Iterator[int]:
    return (held_out_seed(10_000 * seed + index) for index in range(count))


@lru_cache(maxsize=8)
def _rendered(scene: Scene, num_frames: int) -> Clip:
    return render(scene, num_frames)
