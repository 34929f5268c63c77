"""Batches of encoded samples; the batch of a number is the same in every run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...modules.text import Text
from .cache import Cache
from .plan import Sample


class Batch(NamedTuple):
    """Clips of one size and length.

    Attributes:
        latents: (B, C, F, h, w) in the UNet's scale.
        text: of the captions.
        images: frame 0 of each clip, (B, 3, 8h, 8w) in [0, 1].
        features: what CLIP sees in it, (B, N, D), for a content adapter.
    """

    latents: Tensor
    text: Text
    images: Tensor
    features: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        moved = (content if content is None else content.to(device, non_blocking=True) for content in self)
        return Batch(*moved)  # type: ignore[arg-type]


def batch_of(cache: Cache, samples: Sequence[Sample]) -> Batch:
    """Samples of one bucket as a batch."""
    latents, text, images, features = zip(*map(cache.load, samples), strict=True)
    seen = None if features[0] is None else torch.stack(features)
    return Batch(torch.stack(latents), joined(text), torch.stack(images).float() / 255, seen)


def joined(texts: Iterable[Text]) -> Text:
    """Texts of one model as one."""
    states, pooled = zip(*texts, strict=True)
    return Text(torch.cat(states), None if pooled[0] is None else torch.cat(pooled))


class Batches:
    """Endless batches: in each epoch every sample comes as often as it repeats, in an order of its own.

    A batch is of one bucket. The last batch of a bucket may be smaller.
    """

    def __init__(self, cache: Cache, samples: Sequence[Sample], batch_size: int, seed: int) -> None:
        """``batch_size`` is in clips; the order of an epoch follows from ``seed`` and its number."""
        self.cache, self.samples = cache, samples
        self.batch_size, self.seed = batch_size, seed
        self.buckets: dict[object, list[int]] = defaultdict(list)
        for index, sample in enumerate(samples):
            self.buckets[sample.bucket] += [index] * sample.repeats
        self._epoch = (-1, list[list[int]]())

    def __call__(self, number: int) -> Batch:
        """The batch ``number``, from 0."""
        epoch, place = divmod(number, len(self))
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._order(epoch))
        return batch_of(self.cache, [self.samples[index] for index in self._epoch[1][place]])

    def __len__(self) -> int:
        """Batches in an epoch."""
        return sum(-(-len(some) // self.batch_size) for some in self.buckets.values())

    def _order(self, epoch: int) -> list[list[int]]:
        """Numbers of the samples of each batch."""
        random = np.random.default_rng((self.seed, epoch))
        shuffled = [random.permutation(some).tolist() for some in self.buckets.values()]
        size = self.batch_size
        cut = [some[start : start + size] for some in shuffled for start in range(0, len(some), size)]
        return [cut[index] for index in random.permutation(len(cut))]
