"""Numbers of single clips and their means; each clip is made once, and a run that was cut off goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from joblib import Memory
from tqdm.auto import tqdm

from ...bindings.diffusers import SamplingSettings
from ...clips.metrics import brightness_drift, contrast_drift
from ...tiny.model import TinyModel
from ...tiny.scenes import Scene
from ..scenes import Look, TrueClip, true_clip
from ..variants import all_numbers, make_clip, mean_of

Numbers = dict[str, float]


class Measurer:
    """Makes and measures clips of one model.

    Args:
        model: what is measured.
        kept: a folder for the numbers of every clip; they are found again for the same weights, scene and settings.
    """

    def __init__(self, model: TinyModel, kept: Path) -> None:
        self.model, self.weights = model, _digest(model)
        self.remembered = Memory(kept, verbose=0).cache(clip_numbers, ignore=["model"])
        self.bar = tqdm(unit="clip")

    def mean(self, variant: str, truths: Iterable[TrueClip], settings: SamplingSettings) -> Numbers:
        """The mean over scenes of every number of :func:`clip_numbers`."""
        return mean_of([self._of(variant, truth, settings) for truth in truths])

    def _of(self, variant: str, truth: TrueClip, settings: SamplingSettings) -> Numbers:
        numbers: Numbers = self.remembered(
            self.model, self.weights, variant, truth.seed, truth.scene, truth.look, settings
        )
        self.bar.update()
        return numbers


def clip_numbers(
    model: TinyModel, weights: str, variant: str, seed: int, scene: Scene, look: Look, settings: SamplingSettings
) -> Numbers:
    """Every number of one clip: those of :func:`..variants.all_numbers`, and how its brightness and contrast drift.

    weights: tells ``model`` from others where results are kept.
    """
    truth = true_clip(seed, scene, settings.num_frames, look)
    frames = make_clip(model, variant, truth, settings)
    drift = {
        "brightness_drift": brightness_drift(frames, truth.frames),
        "contrast_drift": contrast_drift(frames, truth.frames),
    }
    return all_numbers(frames, truth) | drift


def _digest(model: TinyModel) -> str:
    """Of all weights."""
    digest = hashlib.sha256()
    for part in (model.autoencoder, model.text_encoder, model.unet, model.motion, model.adapter, model.retention):
        for weight in part.state_dict().values():
            digest.update(weight.cpu().numpy().tobytes())
    return digest.hexdigest()
