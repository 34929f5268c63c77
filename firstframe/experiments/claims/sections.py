"""What is compared: one function for each of the papers' claims."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

from ...bindings.diffusers import SamplingSettings
from ...sampling.guidance import DualGuidance
from ..scenes import TrueClip
from .numbers import Measurer, Numbers

LOOK_VARIANTS = ("base", "clean_frame", "adapter")
PARTS = ("base", "clean_frame", "adapter", "retention", "adapter+retention")
GUIDED = "adapter"  # whose guidance is varied
ACTION_SCALES = ((1.0, 1.0), (1.0, 2.0), (1.0, 4.0), (2.0, 2.0), (4.0, 4.0))  # image, text
IMAGE_SCALES = (1.0, 3.0, 6.0)
SHOWN_SCALES = (1.0, 4.0)  # of the sheet
TEXT_SCALE = 2.0  # where the image scale varies
START_TIMES = (1.0, 0.9, 0.8, 0.7, 0.6)
PRIOR_SCENES = 4
PRIOR_STEPS = 10  # t0 is rounded to whole steps: fewer do not tell 0.9 from 1
KEEP_PROBABILITIES = (0.9, 0.7, 0.5, 0.3, 0.1)
REFINED = {
    "apg": DualGuidance(IMAGE_SCALES[-1], TEXT_SCALE, parallel=0.0),
    "rescale": DualGuidance(IMAGE_SCALES[-1], TEXT_SCALE, rescale=0.7),
}


def parts(measurer: Measurer, truths: list[TrueClip], settings: SamplingSettings) -> dict[str, Numbers]:
    """What adapter and retention branch add to the base, alone and together (2312.16693 Table 3, 2312.03018)."""
    return {variant: measurer.mean(variant, truths, settings) for variant in PARTS}


def many_actions(measurer: Measurer, actions: list[list[TrueClip]], settings: SamplingSettings) -> list[dict[str, Any]]:
    """One picture under many prompts, over the text scale: how often the clip does what its prompt says.

    "single" has one scale for picture and text together, between neither and both; "dual" has one for each
    (2312.03018).
    """
    truths = [truth for of_picture in actions for truth in of_picture]
    return [
        {
            "guidance": "single" if image == text else "dual",
            "image_scale": image,
            "text_scale": text,
            **measurer.mean(GUIDED, truths, replace(settings, guidance=DualGuidance(image, text))),
        }
        for image, text in ACTION_SCALES
    ]


def image_scales(measurer: Measurer, actions: list[list[TrueClip]], settings: SamplingSettings) -> list[dict[str, Any]]:
    """One action of every picture over the image scale, the highest also refined: likeness, and drift of the tone."""
    truths = [of_picture[index % len(of_picture)] for index, of_picture in enumerate(actions)]
    plain = [("plain", DualGuidance(scale, TEXT_SCALE)) for scale in IMAGE_SCALES]
    return [
        {
            "refinement": name,
            "image_scale": guidance.image_scale,
            "text_scale": guidance.text_scale,
            **measurer.mean(GUIDED, truths, replace(settings, guidance=guidance)),
        }
        for name, guidance in [*plain, *REFINED.items()]
    ]


def prior_grid(measurer: Measurer, truths: list[TrueClip], settings: SamplingSettings) -> list[dict[str, Any]]:
    """Motion and stability over t0 and p of the frame similarity prior (2312.16693 Table 2), on PRIOR_SCENES scenes."""
    rows = []
    for t0, p in product(START_TIMES, KEEP_PROBABILITIES):
        steps = max(settings.steps, PRIOR_STEPS)
        knobs = replace(settings, steps=steps, start_time=t0, keep_probability=p)
        rows.append({"t0": t0, "p": p, **measurer.mean("adapter", truths[:PRIOR_SCENES], knobs)})
    return rows


def other_look(measurer: Measurer, truths: list[TrueClip], settings: SamplingSettings) -> dict[str, Numbers]:
    """The adapter on a base that was tuned to another look after the adapter was trained."""
    return {variant: measurer.mean(variant, truths, settings) for variant in LOOK_VARIANTS}
