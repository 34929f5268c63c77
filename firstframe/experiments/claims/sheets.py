"""Clips to look at, a few for each comparison."""

from __future__ import annotations

from dataclasses import replace

from ...bindings.diffusers import SamplingSettings
from ...sampling.guidance import DualGuidance
from ...tiny.model import TinyModel
from ..films import Shown
from ..scenes import TrueClip
from ..variants import make_clip
from .sections import GUIDED, SHOWN_SCALES

_SHOWN = 3  # scenes in a sheet


def show_variants(
    model: TinyModel, variants: tuple[str, ...], truths: list[TrueClip], settings: SamplingSettings
) -> Shown:
    """The first few scenes: the truth and each variant."""
    scenes = []
    for truth in truths[:_SHOWN]:
        clips = {variant: make_clip(model, variant, truth, settings) for variant in variants}
        scenes.append((truth.scene.caption, {"truth": truth.frames, **clips}))
    return scenes


def show_actions(model: TinyModel, actions: list[TrueClip], settings: SamplingSettings) -> Shown:
    """One picture under each of its prompts."""
    guided = replace(settings, guidance=DualGuidance(*SHOWN_SCALES))
    return [(truth.scene.caption, {"dual": make_clip(model, GUIDED, truth, guided)}) for truth in actions]
