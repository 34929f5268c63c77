"""Amounts of motion by name."""

from __future__ import annotations

import torch
from comfyui_firstframe_pack.firstframe.sampling.prior import MOTION
from comfyui_firstframe_pack.nodes.presets import CUSTOM, NAMED
from comfyui_firstframe_pack.nodes.prior import SimilarityPrior
from small import reference
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
