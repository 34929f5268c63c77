"""The ways to make a clip that are compared, and the numbers that compare them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from ..bindings.diffusers import SamplingSettings
from ..clips.metrics import first_frame_ssim, flow_score, measured_direction, psnr, ssim, warping_error
from ..tiny.model import TinyModel
from ..tiny.pipeline import PartScales, animate_picture, decode_clip, generate_clip, retain_picture
from .scenes import TrueClip

VARIANTS = ("base", "clean_frame", "adapter")
RETAINED = ("retention", "adapter+retention")
_STRENGTHS = {
    "clean_frame": PartScales(adapter=0.0),
    "adapter": PartScales(),
    "adapter+retention": PartScales(retention=1.0),
}


def make_clip(model: TinyModel, variant: str, truth: TrueClip, settings: SamplingSettings) -> Tensor:
    """Frames (F, H, W, 3) in [0, 1] by one of VARIANTS or RETAINED.

    base: from the text alone. clean_frame: the clean first frame is held and sampling starts from the frame
    similarity prior, without the adapter. adapter: the same, with it. retention: from noise as base, with the
    retention branch; its first frame is its own. adapter+retention: as adapter, with the branch.
    """
    settings = replace(settings, seed=settings.seed + truth.seed)
    caption = truth.scene.caption
    if variant == "base":
        height, width = truth.frames.shape[1:3]
        return generate_clip(model, caption, settings, (height, width))
    if variant == "retention":
        return retain_picture(model, truth.picture, caption, settings)
    return animate_picture(model, truth.picture, caption, settings, _STRENGTHS[variant])


def round_trip(model: TinyModel, truth: TrueClip) -> Tensor:
    """The true frames encoded and decoded again: what no variant can do better than."""
    latents = model.encode(truth.frames.movedim(-1, 1).to(model.unet.device))
    return decode_clip(model, latents.movedim(0, 1)[None])


def likeness(frames: Tensor, truth: TrueClip) -> dict[str, float]:
    return {"ssim": ssim(frames, truth.frames), "psnr": psnr(frames, truth.frames)}


def movement(frames: Tensor, truth: TrueClip) -> dict[str, float]:
    """direction_accuracy is 1 where the measured motion goes where the caption says, else 0."""
    right = measured_direction(frames).name == truth.scene.direction
    return {
        "direction_accuracy": float(right),
        "flow_score": flow_score(frames),
        "warping_error": warping_error(frames),
    }


def all_numbers(frames: Tensor, truth: TrueClip) -> dict[str, float]:
    start = first_frame_ssim(frames, truth.frames[0])
    return {**likeness(frames, truth), "first_frame_ssim": start, **movement(frames, truth)}


def mean_of(rows: list[dict[str, float]]) -> dict[str, Any]:
    """The mean over scenes of every number, to four digits."""
    return {key: round(float(np.mean([row[key] for row in rows])), 4) for key in rows[0]}
