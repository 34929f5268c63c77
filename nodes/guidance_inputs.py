"""What the nodes with guidance by image and text have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

from ..firstframe.bindings.comfy.guidance import DualGuider
from ..firstframe.sampling.guidance import DualGuidance, LowPass
from .presets import CUSTOM, intervals_of

WITH_IMAGE = "its pass is saved where the image scale is 1 too, which otherwise needs it"


def _percent(id: str, default: float, what: str, saved: str = "its pass is saved") -> io.Float.Input:
    tooltip = f"{what} in the noise schedule, 0 (all noise) to 1 (none). Outside, the scale is 1 and {saved}."
    return io.Float.Input(id, default=default, min=0.0, max=1.0, step=0.001, tooltip=tooltip)


def scale_inputs() -> list[io.Input]:
    """Both scales."""
    return [
        io.Float.Input(
            "image_scale",
            default=1.5,
            min=0.0,
            max=30.0,
            step=0.1,
            tooltip="How much more the image counts than without it. 1 is neutral and saves a third of the time.",
        ),
        io.Float.Input(
            "text_scale",
            default=7.5,
            min=0.0,
            max=30.0,
            step=0.1,
            tooltip="How much more the text counts than without it. 1 is neutral. Tiny model: 2.",
        ),
    ]


def refinement_inputs() -> list[io.Input]:
    """Where the scales hold, and what keeps high ones from burning in."""
    return [
        _percent("image_start", 0.0, "Where the image scale begins"),
        _percent("image_end", 1.0, "Where the image scale ends"),
        _percent("text_start", 0.0, "Where the text scale begins", WITH_IMAGE),
        _percent("text_end", 1.0, "Where the text scale ends", WITH_IMAGE),
        io.Float.Input(
            "parallel",
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip=(
                "Share of the guidance that is kept along the prediction (APG): that part brightens and saturates. "
                "1 keeps all; 0 takes it away."
            ),
        ),
        io.Float.Input(
            "rescale",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="Share of the result whose contrast is brought back to that of the unguided one. 0 is off.",
        ),
    ]


def dual_guider(
    model: ModelPatcher,
    positive: list[Any],
    negative: list[Any],
    passes: str = CUSTOM,
    early_detail: float = 1.0,
    early_end: float = 0.2,
    **scales: float,
) -> DualGuider:
    """The guider of a node's values; ``scales`` are those of :func:`scale_inputs` and :func:`refinement_inputs`."""
    guider = DualGuider(model, _guidance(passes, scales), LowPass(early_detail, early_end))
    guider.set_conds(positive, negative)
    return guider


def _guidance(passes: str, scales: Mapping[str, float]) -> DualGuidance:
    image_interval = (scales["image_start"], scales["image_end"])
    intervals = intervals_of(passes, image_interval, (scales["text_start"], scales["text_end"]))
    return DualGuidance(
        scales["image_scale"],
        scales["text_scale"],
        intervals.image_interval,
        intervals.text_interval,
        scales["parallel"],
        scales["rescale"],
    )
