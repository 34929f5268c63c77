"""Amounts of motion by name."""

from __future__ import annotations

import pytest
import torch
from comfyui_firstframe_pack.firstframe.sampling.guidance import PASSES, DualGuidance, Passes
from comfyui_firstframe_pack.firstframe.sampling.prior import MOTION
from comfyui_firstframe_pack.nodes.guidance import DualCFGGuider
from comfyui_firstframe_pack.nodes.presets import CUSTOM, INTERVALS, NAMED
from comfyui_firstframe_pack.nodes.prior import SimilarityPrior
from small import conditioning, reference, small_model
from torch import Tensor

BLUR = {"blur_kernel": 3, "blur_sigma": 18.0, "seed": 5}


def start(start_time: float, keep_probability: float, motion: str) -> tuple[Tensor, float]:
    latent, denoise = SimilarityPrior.execute(reference(), 4, start_time, keep_probability, **BLUR, motion=motion).args
    return latent["samples"], denoise


def test_a_name_stands_for_its_numbers() -> None:
    for choice, knobs in NAMED.items():
        named, denoise = start(0.33, 0.2, choice)
        numbers, expected = start(knobs.start_time, knobs.keep_probability, CUSTOM)
        assert torch.equal(named, numbers)
        assert denoise == expected == knobs.start_time


def test_custom_takes_the_numbers() -> None:
    assert start(0.33, 0.2, CUSTOM)[1] == 0.33


def test_the_choices_say_what_they_set() -> None:
    assert list(NAMED) == ["subtle (t0 0.7, p 1)", "balanced (t0 0.9, p 1)", "lively (t0 1, p 0.9)"]
    assert list(NAMED.values()) == list(MOTION.values())


@pytest.mark.parametrize("choice", [CUSTOM, *INTERVALS])
def test_passes_stand_for_intervals(choice: str) -> None:
    refinement = {"parallel": 1.0, "rescale": 0.0}
    intervals = {"image_start": 0.1, "image_end": 0.6, "text_start": 0.2, "text_end": 0.9}
    prompts = [conditioning(1), conditioning(2)]
    scales = {"image_scale": 1.5, "text_scale": 2.0, **intervals, **refinement}
    guidance = DualCFGGuider.execute(small_model(), *prompts, passes=choice, **scales).args[0].guidance
    expected = Passes((0.1, 0.6), (0.2, 0.9)) if choice == CUSTOM else INTERVALS[choice]
    assert Passes(guidance.image_interval, guidance.text_interval) == expected


def test_economical_takes_little_more_than_plain_guidance() -> None:
    def passes(name: str, steps: int) -> float:
        """Against two in every step."""
        intervals = PASSES[name]
        guidance = DualGuidance(1.5, 7.5, intervals.image_interval, intervals.text_interval)
        branches = [guidance.at((step + 0.5) / steps).branches for step in range(steps)]
        return sum(map(len, branches)) / (2 * steps)

    for steps in (4, 10, 20, 25, 50):
        assert passes("full", steps) == 1.5
        assert passes("economical", steps) <= 1.25
