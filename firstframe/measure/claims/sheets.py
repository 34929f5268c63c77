"""Frames of a few clips to look at, one sheet for each comparison."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ...bindings.diffusers import SamplingSettings
from ...guidance import DualGuidance
from ...tiny.model import TinyModel
from ..picture import draw_report
from ..scenes import TrueClip
from ..variants import make_clip
from .sections import GUIDED, SHOWN_SCALES

_SHOWN = 3  # scenes in a sheet


def draw_variants(
    model: TinyModel, variants: tuple[str, ...], truths: list[TrueClip], settings: SamplingSettings, file: Path
) -> None:
    """The first few scenes: a row of frames for the truth and for each variant."""
    scenes = []
    for truth in truths[:_SHOWN]:
        clips = {variant: make_clip(model, variant, truth, settings) for variant in variants}
        scenes.append((truth.scene.caption, {"truth": truth.frames, **clips}))
    draw_report(scenes).save(file)


def draw_actions(model: TinyModel, actions: list[TrueClip], settings: SamplingSettings, file: Path) -> None:
    """One picture under each of its prompts."""
    guided = replace(settings, guidance=DualGuidance(*SHOWN_SCALES))
    scenes = [(truth.scene.caption, {"dual": make_clip(model, GUIDED, truth, guided)}) for truth in actions]
    draw_report(scenes).save(file)
