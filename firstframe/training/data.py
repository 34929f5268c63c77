"""Encoded clips on the device that trains, and batches drawn from them.

A batch is a function of its step: the same step draws the same batch in every run, so that a run that was cut off
goes on with the batches that it would have seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

DRAWS, BATCHES = 0, 1


def seed_of(stream: int, seed: int, step: int) -> int:
    """Seed of a step's batch or of its other draws, 0 to 2**32 - 1; neighbours get unrelated ones.

    Args:
        stream: ``BATCHES`` or ``DRAWS``.
        seed: of the whole stream.
        step: from 0.
    """
    return int(np.random.SeedSequence((stream, seed, step)).generate_state(1)[0])


class ClipBatch(NamedTuple):
    """A few frames of some clips.

    Attributes:
        latents: (B, C, F, H, W).
        tokens: ids of each clip's caption, (B, N).
        weights: how much each place counts in the loss, (B, H, W).
        positions: numbers of the frames in the whole clips, (F,); None for single frames, which have no motion.
        images: frame 0 of the clips, (B, 3, 8H, 8W) in [0, 1]; None where they were not opened.
    """

    latents: Tensor
    tokens: Tensor
    weights: Tensor
    positions: Tensor | None = None
    images: Tensor | None = None

    def only(self, clips: slice) -> ClipBatch:
        """Some of the clips."""
        images = None if self.images is None else self.images[clips]
        return ClipBatch(self.latents[clips], self.tokens[clips], self.weights[clips], self.positions, images)


@dataclass(frozen=True)
class LatentClips:
    """Encoded clips, all on one device.

    Attributes:
        latents: (clips, C, F, H, W), unit variance.
        tokens: (clips, N).
        weights: (clips, H, W).
        images: frame 0 of each, (clips, 3, 8H, 8W) uint8, or None.
    """

    latents: Tensor
    tokens: Tensor
    weights: Tensor
    images: Tensor | None = None

    def to(self, device: torch.device) -> LatentClips:
        """The same clips on a device."""
        images = None if self.images is None else self.images.to(device)
        return LatentClips(self.latents.to(device), self.tokens.to(device), self.weights.to(device), images)

    def batches(self, batch_size: int, num_frames: int, seed: int) -> Callable[[int], ClipBatch]:
        """Batches of ``num_frames`` frames of random clips, in order.

        One frame is any frame. More are frame 0 and others drawn anew for each batch: few frames of many clips
        teach a motion module what the words mean in less time than all frames of few clips.
        """
        draw = self._single_frames if num_frames == 1 else partial(self._frames, num_frames)

        def batch(step: int) -> ClipBatch:
            generator = torch.Generator(self.latents.device).manual_seed(seed_of(BATCHES, seed, step))
            return draw(self._randint(len(self.latents), batch_size, generator), generator)

        return batch

    def _randint(self, high: int, count: int, generator: torch.Generator) -> Tensor:
        return torch.randint(high, (count,), generator=generator, device=self.latents.device)

    def _single_frames(self, chosen: Tensor, generator: torch.Generator) -> ClipBatch:
        frames = self._randint(self.latents.shape[2], len(chosen), generator)
        latents = self.latents[chosen, :, frames].unsqueeze(2).float()  # B C 1 H W
        return ClipBatch(latents, self.tokens[chosen], self.weights[chosen])

    def _frames(self, num_frames: int, chosen: Tensor, generator: torch.Generator) -> ClipBatch:
        device, length = self.latents.device, self.latents.shape[2]
        later = torch.randperm(length - 1, generator=generator, device=device)[: num_frames - 1].sort().values + 1
        positions = torch.cat([torch.zeros_like(later[:1]), later])
        latents = self.latents[chosen].index_select(2, positions).float()
        images = None if self.images is None else self.images[chosen].float() / 255
        return ClipBatch(latents, self.tokens[chosen], self.weights[chosen], positions, images)
