"""The latents of clips of the tiny model on the CPU, against those recorded before there was one way to sample.

``FIRSTFRAME_FREEZE=1`` records them anew. ``FIRSTFRAME_EXACT=1`` asks for the same bits, which holds on one machine
with one version of PyTorch.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from firstframe.bindings.diffusers import Parts, PartScales, Prompts, SamplingSettings, sample
from firstframe.bindings.diffusers.pipeline import animate_sequence, reference_of, sample_clip
from firstframe.clips.reference import Reference
from firstframe.sampling.guidance import DualGuidance
from firstframe.tiny.model import TinyModel, load_tiny

RECORDED = Path(__file__).parents[1] / "data" / "recorded_clips.safetensors"
RELATIVE = 2e-3
"""Halves are recorded; the rest is what another CPU rounds otherwise."""
PROMPT, NEXT, NEGATIVE = "a red fish moves left slowly, still camera", "a red fish moves up slowly", "still"
SIDE = 64
SETTINGS = SamplingSettings(num_frames=4, steps=3, cfg=2.0, seed=5, size=(SIDE, SIDE))
DUAL = replace(SETTINGS, guidance=DualGuidance(1.5, 3.0))
REFINED = replace(SETTINGS, guidance=DualGuidance(2.0, 4.0, (0.0, 0.6), (0.2, 1.0), 0.3, 0.4))
NEAR = replace(SETTINGS, start_time=0.6, keep_probability=0.8, hold_first_frame=False)


@pytest.fixture(scope="module")
def model() -> TinyModel:
    return load_tiny()


def image() -> Tensor:
    """A white disc on a gradient, (1, 3, H, W)."""
    line = torch.linspace(0, 1, SIDE)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([y, x, ((x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.06).float()])[None]


@torch.inference_mode()
def made(model: TinyModel, settings: SamplingSettings, reference: Reference | None, scales: PartScales) -> Tensor:
    parts = Parts(model.motion, model.adapter, retention=model.retention, scales=scales)
    prompts = Prompts(*model.encode_text([PROMPT, NEGATIVE]).chunk(2))
    return sample(model.unet, parts, prompts, settings, reference, scheduler=model.scheduler, latent_scale=1.0)


def from_image(settings: SamplingSettings, **scales: float) -> Callable[[TinyModel], Tensor]:
    return lambda model: made(model, settings, reference_of(model, image()), PartScales(**scales))


def from_pixels(settings: SamplingSettings) -> Callable[[TinyModel], Tensor]:
    return lambda model: made(model, settings, reference_of(model, image(), encode=False), PartScales())


def sequence(model: TinyModel) -> Tensor:
    """Frames of two clips, every fourth pixel."""

    def animated(first: Tensor, prompt: str, settings: SamplingSettings) -> Tensor:
        scales = PartScales(retention=0.5)
        return sample_clip(model, prompt, settings, reference_of(model, first), scales, negative=NEGATIVE)

    return animate_sequence(animated, image(), [PROMPT, NEXT], SETTINGS, among_last=2)[:, ::4, ::4]


CLIPS: dict[str, Callable[[TinyModel], Tensor]] = {
    "plain": from_image(SETTINGS, retention=0.0),
    "near": from_image(NEAR, adapter=0.5, retention=0.0),
    "unguided": from_image(replace(SETTINGS, cfg=1.0), adapter=0.0, retention=0.0),
    "dual": from_image(DUAL),
    "refined": from_image(REFINED, retention=0.7),
    "retention": from_pixels(DUAL),
    "retention_plain": from_pixels(SETTINGS),
    "text": lambda model: made(model, SETTINGS, None, PartScales()),
    "sequence": sequence,
}


def digest(clip: Tensor) -> str:
    return hashlib.sha256(clip.contiguous().numpy().tobytes()).hexdigest()


def record(name: str, clip: Tensor) -> None:
    with safe_open(RECORDED, "pt") as file:
        digests = file.metadata() or {}
    save_file({**load_file(RECORDED), name: clip.half().contiguous()}, RECORDED, {**digests, name: digest(clip)})


@pytest.mark.parametrize("name", CLIPS)
def test_a_clip_is_the_one_recorded(model: TinyModel, name: str) -> None:
    clip = CLIPS[name](model)
    if os.environ.get("FIRSTFRAME_FREEZE"):
        record(name, clip)
    expected = load_file(RECORDED)[name].float()
    assert (clip - expected).norm() < RELATIVE * expected.norm()
    if os.environ.get("FIRSTFRAME_EXACT"):
        with safe_open(RECORDED, "pt") as file:
            assert digest(clip) == file.metadata()[name]
