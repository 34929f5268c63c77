"""The scenes to measure on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from ..tiny.scenes import DIRECTIONS, Scene, dusk, held_out_seed, render, sample_scene

Look = Literal["plain", "dusk"]
ACTIONS = (
    *((direction, "slowly") for direction in DIRECTIONS),
    *((direction, "quickly") for direction in ("left", "right")),
)
_NEAR = 0.1  # share of its way from the centre that a thing keeps


@dataclass(frozen=True)
class TrueClip:
    """A rendered scene: its number, what happens in it, its frames (F, H, W, 3) in [0, 1], and their look."""

    seed: int
    scene: Scene
    frames: Tensor
    look: Look = "plain"

    @property
    def picture(self) -> Tensor:
        """Frame 0 as (1, 3, H, W)."""
        return self.frames[:1].movedim(-1, 1)


def held_out_clips(count: int, seed: int, num_frames: int, look: Look = "plain") -> Iterator[TrueClip]:
    """`count` scenes, at most 10,000, that are others for every seed and never those of the training."""
    for index in range(count):
        scene_seed = held_out_seed(10_000 * seed + index)
        yield true_clip(scene_seed, sample_scene(scene_seed), num_frames, look)


def true_clip(seed: int, scene: Scene, num_frames: int, look: Look = "plain") -> TrueClip:
    """A scene with its rendered frames."""
    frames = render(scene, num_frames, with_flow=False).frames
    seen = dusk(frames) if look == "dusk" else frames
    return TrueClip(seed, scene, torch.from_numpy(seen).float() / 255, look)


def action_clips(count: int, seed: int, num_frames: int) -> Iterator[list[TrueClip]]:
    """For each of `count` pictures, what it becomes under every one of ACTIONS.

    The pictures are those of :func:`held_out_clips` with the thing near the centre, so that it can go anywhere; the
    camera is still.
    """
    for index in range(count):
        scene_seed = held_out_seed(10_000 * seed + index)
        scene = sample_scene(scene_seed)
        x, y = (_NEAR * place for place in scene.start)
        centred = replace(scene, start=(x, y), camera="still camera")
        yield [
            true_clip(scene_seed, replace(centred, direction=direction, speed=speed), num_frames)
            for direction, speed in ACTIONS
        ]
