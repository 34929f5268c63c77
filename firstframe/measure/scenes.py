"""The scenes to measure on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..training.data import held_out_seed
from ..training.scenes import Scene, render, sample_scene


@dataclass(frozen=True)
class TrueClip:
    """A rendered scene: its number, what happens in it, and its frames (F, H, W, 3) in [0, 1]."""

    seed: int
    scene: Scene
    frames: Tensor

    @property
    def picture(self) -> Tensor:
        """Frame 0 as (1, 3, H, W)."""
        return self.frames[:1].movedim(-1, 1)


def held_out_clips(count: int, seed: int, num_frames: int) -> Iterator[TrueClip]:
    """`count` scenes, at most 10,000, that are others for every seed and never those of the training."""
    for index in range(count):
        scene_seed = held_out_seed(10_000 * seed + index)
        scene = sample_scene(scene_seed)
        frames = render(scene, num_frames, with_flow=False).frames
        yield TrueClip(scene_seed, scene, torch.from_numpy(frames).float() / 255)
