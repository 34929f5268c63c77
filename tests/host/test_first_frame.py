"""The picture stands in frame 0, whatever sampler and scheduler run."""

from __future__ import annotations

import pytest
import torch
from comfy.model_patcher import ModelPatcher
from comfy.samplers import KSampler
from comfyui_firstframe_pack.firstframe.bindings.comfy.adapter import apply_adapter
from comfyui_firstframe_pack.firstframe.bindings.comfy.first_frame import hold_first_frame
from comfyui_firstframe_pack.firstframe.bindings.comfy.motion import apply_motion
from small import SMALLEST, ksample, reference_latent, small_adapter, small_model, small_motion, start_latent

pytestmark = pytest.mark.feature("Every sampler and scheduler of the host starts with exactly the picture")


@pytest.fixture(scope="module")
def model() -> ModelPatcher:
    base = small_model(SMALLEST, strength=0.02)
    applied = apply_adapter(apply_motion(base, small_motion(SMALLEST), 1.0, "auto"), small_adapter(SMALLEST), 1.0)
    return hold_first_frame(applied, reference_latent())


@pytest.mark.parametrize("denoise", [1.0, 0.6])
@pytest.mark.parametrize("sampler", KSampler.SAMPLERS)
def test_frame_0_is_the_reference(model: ModelPatcher, sampler: str, denoise: float) -> None:
    picture = reference_latent()[0]
    errors = {}
    for scheduler in KSampler.SCHEDULERS:
        clip = ksample(model, start_latent(2), sampler_name=sampler, scheduler=scheduler, steps=2, denoise=denoise)
        errors[scheduler] = ((clip[0] - picture).abs().max() / picture.abs().max()).item()
        assert not torch.equal(clip[1], clip[0])
    assert {name: error for name, error in errors.items() if not error < 1e-6} == {}
