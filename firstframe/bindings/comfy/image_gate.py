"""Which conditionings see the image: a mark in each, told to everything that looks at one.

The host puts several conditionings into one call of the UNet. What stands in a conditioning's ``model_conds`` travels
with its rows; this mark does so as a Python value, so that nobody has to wait for the device to read it. Conditionings
without a mark see the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch
from comfy.conds import CONDConstant
from torch import Tensor

IMAGE_GATE = "firstframe_sees_image"

Seeing = tuple[bool, ...]
"""For each clip of a call, whether it sees the image."""


class ImageGate(CONDConstant):
    """The mark of one conditioning, or of those that the host put into one call."""

    def __init__(self, cond: Seeing) -> None:
        super().__init__(cond)

    def can_concat(self, other: ImageGate) -> bool:
        """Conditionings that see the image share a call with those that do not."""
        return True

    def concat(self, others: Sequence[ImageGate]) -> Seeing:
        """Called by the host: the marks of a call, in the order of its clips."""
        return sum((other.cond for other in others), self.cond)


def gated(conditioning: list[Any], sees_image: bool) -> list[Any]:
    """A copy of a CONDITIONING that is marked."""
    mark = ImageGate((sees_image,))
    return [
        [embedding, {**extra, "model_conds": {**extra.get("model_conds", {}), IMAGE_GATE: mark}}]
        for embedding, extra in conditioning
    ]


def seeing_clips(arguments: dict[str, Any]) -> Seeing | None:
    """Which clips of a call see the image; None where all of them do.

    Args:
        arguments: of the call, the mark among them.
    """
    seeing: Seeing | None = arguments.get(IMAGE_GATE)
    return None if seeing is None or all(seeing) else seeing


def runs_of(seeing: Seeing | None, num_clips: int) -> list[tuple[int, int]]:
    """The clips that see the image, as runs (first, behind the last): slices in place of an index."""
    runs, start = [], 0
    for sees, run in groupby((True,) * num_clips if seeing is None else seeing):
        end = start + len(list(run))
        if sees:
            runs.append((start, end))
        start = end
    return runs


def only_seeing(rows: Tensor, seeing: Seeing | None) -> Tensor:
    """The rows (clips*F, ...) of the clips that see the image."""
    if seeing is None:
        return rows
    return torch.cat([clip for clip, sees in zip(rows.chunk(len(seeing)), seeing, strict=True) if sees])


def zero_elsewhere(rows: Tensor, seeing: Seeing | None) -> Tensor:
    """The inverse of `only_seeing`: rows of all clips, zero where a clip does not see the image."""
    if seeing is None:
        return rows
    clips = iter(rows.chunk(sum(seeing)))
    nothing = rows.new_zeros(()).expand(len(rows) // sum(seeing), *rows.shape[1:])
    return torch.cat([next(clips) if sees else nothing for sees in seeing])
