"""Makes clips and measures them; each is made once, and an interrupted run continues where it stopped."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from joblib import Memory
from numpy.typing import NDArray
from torch import Tensor

from ..clips import metrics
from ..clips.video import to_uint8
from ..tiny.model import TinyModel
from ..tiny.scenes.target import Target
from .experiment import Clip
from .methods import make_clip


class Measured(NamedTuple):
    """The numbers of a clip, and its frames (F, H, W, 3) where they are shown."""

    numbers: dict[str, float]
    frames: NDArray[np.uint8] | None


class Evaluator:
    """Makes and measures clips of one model.

    Args:
        model: the model that is measured.
        kept: a folder that keeps every result by weights, method, scene and settings.
    """

    def __init__(self, model: TinyModel, kept: Path) -> None:
        self.model, self.weights = model, _digest(model)
        self.remembered = Memory(kept, verbose=0).cache(_measure, ignore=["model", "clip"])

    def measure(self, clip: Clip) -> Measured:
        """Make and measure one clip, or find what an earlier run measured."""
        measured: Measured = self.remembered(*self._call(clip))
        return measured

    def is_kept(self, clip: Clip) -> bool:
        """Whether an earlier run measured this clip."""
        kept: bool = self.remembered.check_call_in_cache(*self._call(clip))
        return kept

    def _call(self, clip: Clip) -> tuple[TinyModel, Clip, tuple[Any, ...]]:
        """Model, clip, and what tells them from others where results are kept."""
        return self.model, clip, (self.weights, clip.target, clip.case.method, clip.settings, clip.shown)


def evaluate(frames: Tensor, target: Target) -> dict[str, float]:
    """Compare a clip (F, H, W, 3) with its target.

    direction_accuracy is 1 where the measured motion goes where the caption says, else 0. background_flow and
    background_jump are NaN under a moving camera, where nothing stands still.
    """
    truth, true = target.frames, target.clip
    return {
        "ssim": metrics.ssim(frames, truth),
        "psnr": metrics.psnr(frames, truth),
        "first_frame_ssim": metrics.first_frame_ssim(frames, truth[0]),
        "direction_accuracy": float(metrics.measured_direction(frames).name == target.scene.direction),
        "object_ssim": metrics.object_ssim(frames, truth, true.masks),
        "silhouette_iou": metrics.silhouette_iou(frames[-1], truth[-1], target.last_background, true.masks[-1]),
        "object_speed": metrics.object_speed(frames, true.masks, true.flow),
        "background_flow": metrics.background_flow(frames, true.masks, true.flow),
        "background_jump": metrics.background_jump(frames, true.masks, true.flow),
        "flow_score": metrics.flow_score(frames),
        "warping_error": metrics.warping_error(frames),
        "brightness_drift": metrics.brightness_drift(frames, truth),
        "contrast_drift": metrics.contrast_drift(frames, truth),
    }


def _measure(model: TinyModel, clip: Clip, key: tuple[Any, ...]) -> Measured:
    frames = make_clip(model, clip.case.method, clip.target, clip.settings)
    return Measured(evaluate(frames, clip.target), to_uint8(frames).numpy() if clip.shown else None)


def _digest(model: TinyModel) -> str:
    """Of all weights."""
    digest = hashlib.sha256()
    for module in (model.autoencoder, model.text_encoder, model.unet, model.motion, model.adapter, model.retention):
        for weight in module.state_dict().values():
            digest.update(weight.cpu().numpy().tobytes())
    return digest.hexdigest()
