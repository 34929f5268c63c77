"""The image stands in frame 0, whatever sampler and scheduler run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from comfy.sample import prepare_noise
from comfy.samplers import KSampler, calculate_sigmas, sampler_object
from comfyui_firstframe_pack.firstframe.bindings.comfy.adapter import apply_adapter
from comfyui_firstframe_pack.firstframe.bindings.comfy.first_frame import hold_first_frame
from comfyui_firstframe_pack.firstframe.bindings.comfy.guidance import DualGuider
from comfyui_firstframe_pack.firstframe.bindings.comfy.image_gate import IMAGE_GATE
from comfyui_firstframe_pack.firstframe.bindings.comfy.motion import apply_motion
from comfyui_firstframe_pack.firstframe.sampling.guidance import DualGuidance
from node_helpers import conditioning_set_values
from small import (
    SIDE,
    SMALLEST,
    conditioning,
    ksample,
    reference_latent,
    relative_error,
    small_adapter,
    small_model,
    small_motion,
    start_latent,
)
from torch import Tensor

pytestmark = pytest.mark.feature("Every sampler and scheduler of the host starts with exactly the image")


@pytest.fixture(scope="module")
def model() -> ModelPatcher:
    base = small_model(SMALLEST, strength=0.02)
    applied = apply_adapter(apply_motion(base, small_motion(SMALLEST), 1.0, "auto"), small_adapter(SMALLEST), 1.0)
    return hold_first_frame(applied, reference_latent())


@pytest.mark.parametrize("denoise", [1.0, 0.6])
@pytest.mark.parametrize("sampler", KSampler.SAMPLERS)
def test_frame_0_is_the_reference(model: ModelPatcher, sampler: str, denoise: float) -> None:
    image = reference_latent()[0]
    errors = {}
    for scheduler in KSampler.SCHEDULERS:
        clip = ksample(model, start_latent(2), sampler_name=sampler, scheduler=scheduler, steps=2, denoise=denoise)
        errors[scheduler] = ((clip[0] - image).abs().max() / image.abs().max()).item()
        assert not torch.equal(clip[1], clip[0])
    assert {name: error for name, error in errors.items() if not error < 1e-6} == {}


def in_area(conditioning: list[Any], *area: Any) -> list[Any]:
    """What the nodes for areas make of a CONDITIONING: (height, width, y, x)."""
    return conditioning_set_values(conditioning, {"area": area, "strength": 1.0, "set_area_to_bounds": False})


def dual(model: ModelPatcher, prompts: list[Any], sampler: str = "euler") -> Tensor:
    guider = DualGuider(model, DualGuidance(2.0, 4.0))
    guider.set_conds(*prompts)
    sigmas = calculate_sigmas(model.get_model_object("model_sampling"), "normal", 3)
    latent = start_latent()
    samples: Tensor = guider.sample(prepare_noise(latent, 5), latent, sampler_object(sampler), sigmas, seed=5)
    return samples.cpu()


@pytest.mark.parametrize("area", [(SIDE, SIDE, 0, 0), ("percentage", 1.0, 1.0, 0.0, 0.0)])
def test_an_area_of_the_whole_image_changes_nothing(model: ModelPatcher, area: tuple[Any, ...]) -> None:
    prompts = [conditioning(1), conditioning(2)]
    expected = dual(model, prompts)
    assert relative_error(dual(model, [in_area(prompt, *area) for prompt in prompts]), expected) < 1e-5


def test_an_area_shows_its_part_of_the_noisy_frame(model: ModelPatcher) -> None:
    """Of the calls with noise in frame 0, every one shows what the sampler has there."""
    half = (SIDE // 2, SIDE, SIDE // 2, 0)
    positive = conditioning(1) + in_area(conditioning(3), *half)
    noisy, shown = [], []

    def see(executor: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        marks = kwargs[IMAGE_GATE]
        shown.extend(clip[0] for clip, sees in zip(x.chunk(len(marks)), marks, strict=True) if not sees)
        return executor(x, *args, **kwargs)

    def note(executor: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        noisy.append(x[0])
        return executor(x, *args, **kwargs)

    watched = model.clone()
    watched.wrappers[WrappersMP.PREDICT_NOISE] = {"a_test": [note], **watched.wrappers[WrappersMP.PREDICT_NOISE]}
    watched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "a_test", see)
    clip = dual(watched, [positive, conditioning(2)])
    assert torch.isfinite(clip).all()
    parts = [frame for frame in shown if frame.shape[1] == half[0]]
    assert len(parts) == len(noisy) == len(shown) // 2 == 3
    for part, frame in zip(parts, noisy, strict=True):
        assert torch.equal(part, frame[:, SIDE // 2 :])


def test_masked_conditionings_are_mixed(model: ModelPatcher) -> None:
    """Under masks that make a whole, two conditionings of one prompt are as one."""
    prompts = [conditioning(1), conditioning(2)]
    left = torch.zeros(1, 8 * SIDE, 8 * SIDE)
    left[..., : 4 * SIDE] = 1.0
    halves = [
        conditioning_set_values(conditioning(1), {"mask": mask, "mask_strength": 1.0, "set_area_to_bounds": False})
        for mask in (left, 1.0 - left)
    ]
    found = dual(model, [halves[0] + halves[1], prompts[1]])
    assert relative_error(found, dual(model, prompts)) < 1e-4
