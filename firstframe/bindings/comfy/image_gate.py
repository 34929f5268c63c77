"""Which conditionings see the picture: a mark in each, told to everything that looks at one.

The host puts several conditionings into one call of the UNet. A number in the conditioning's ``model_conds`` travels
with its rows: 1 sees the picture, 0 is the base model alone. Conditionings without a mark see it.
"""

from __future__ import annotations

from typing import Any

import torch
from comfy.conds import CONDRegular
from torch import Tensor

PICTURE_GATE = "firstframe_picture"


def gated(conditioning: list[Any], sees_picture: bool) -> list[Any]:
    """A copy of a CONDITIONING that is marked."""
    mark = CONDRegular(torch.tensor([[float(sees_picture)]]))
    return [
        [embedding, {**extra, "model_conds": {**extra.get("model_conds", {}), PICTURE_GATE: mark}}]
        for embedding, extra in conditioning
    ]


def seeing_clips(arguments: dict[str, Any], num_clips: int) -> Tensor | None:
    """Which clips of a call see the picture, (num_clips,) bool on the CPU; None where all of them do.

    Args:
        arguments: of the call, marks among them.
        num_clips: in the call's batch.
    """
    marks = arguments.get(PICTURE_GATE)
    if marks is None:
        return None
    seeing = marks.reshape(num_clips, -1)[:, 0].cpu() > 0
    return None if seeing.all() else seeing


def rows_of(clips: Tensor, num_frames: int) -> Tensor:
    """The rows of a batch (B*F, ...) that belong to the chosen clips (B,) bool."""
    return clips.repeat_interleave(num_frames).nonzero().flatten()
