"""The retention branch as one of the host's controls."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from comfy.model_patcher import ModelPatcher
from comfyui_firstframe_pack.firstframe.bindings.comfy.motion import apply_motion
from comfyui_firstframe_pack.firstframe.bindings.comfy.retention import RetentionControl, apply_retention
from small import (
    conditioning,
    ksample,
    reference,
    relative_error,
    small_model,
    small_motion,
    small_retention,
)
from torch import Tensor

pytestmark = pytest.mark.feature("Retention branch")


@pytest.fixture(scope="module")
def model() -> ModelPatcher:
    return apply_motion(small_model(), small_motion(), 1.0, "auto")


@pytest.fixture(scope="module")
def branch() -> ModelPatcher:
    return small_retention()


def prompts() -> list[Any]:
    return [conditioning(1), conditioning(2)]


def sample(model: ModelPatcher, branch: ModelPatcher, strength: float, start: float = 0.0, end: float = 1.0) -> Tensor:
    return ksample(model, prompts=apply_retention(prompts(), branch, reference(), strength, start, end))


def test_it_does_something(model: ModelPatcher, branch: ModelPatcher) -> None:
    assert relative_error(sample(model, branch, 1.0), ksample(model)) > 1e-2


def test_untrained_or_off_nothing_changes(model: ModelPatcher, branch: ModelPatcher) -> None:
    plain = ksample(model)
    assert torch.equal(sample(model, branch, 0.0), plain)
    assert torch.equal(sample(model, small_retention(trained=False), 1.0), plain)
    assert torch.equal(sample(model, branch, 1.0, start=0.2, end=0.2001), plain)


def test_twice_four_tenths_are_eight(model: ModelPatcher, branch: ModelPatcher) -> None:
    half = apply_retention(prompts(), branch, reference(), 0.4, 0.0, 1.0)
    chained = ksample(model, prompts=apply_retention(half, branch, reference(), 0.4, 0.0, 1.0))
    assert relative_error(chained, sample(model, branch, 0.8)) < 1e-4


@pytest.mark.parametrize(("start", "end", "steps"), [(0.0, 0.3, 1), (0.3, 1.0, 2), (0.0, 1.0, 3)])
def test_start_and_end_are_kept(
    model: ModelPatcher, branch: ModelPatcher, start: float, end: float, steps: int
) -> None:
    """Three steps, at 0, a half and the end of the schedule."""
    calls = []
    hook = branch.model.register_forward_hook(lambda *_: calls.append(1))
    sample(model, branch, 1.0, start, end)
    hook.remove()
    assert len(calls) == steps


def test_both_prompts_have_one_object(branch: ModelPatcher) -> None:
    applied = apply_retention(prompts(), branch, reference(), 1.0, 0.0, 1.0)
    controls = {id(extra["control"]) for conditioned in applied for _, extra in conditioned}
    assert len(controls) == 1


def test_the_image_is_encoded_once_and_forgotten(
    model: ModelPatcher, branch: ModelPatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    encode = branch.model.encode
    monkeypatch.setattr(branch.model, "encode", lambda image: calls.append(1) or encode(image))
    applied = apply_retention(prompts(), branch, reference(), 1.0, 0.0, 1.0)
    ksample(model, prompts=applied)
    assert len(calls) == 1
    control: RetentionControl = applied[0][0][1]["control"]
    assert len(control.once) == 0 and control.model_sampling is None


def test_the_host_knows_the_weights(branch: ModelPatcher) -> None:
    applied = apply_retention(prompts(), branch, reference(), 1.0, 0.0, 1.0)
    assert branch in applied[0][0][1]["control"].get_models()


def test_a_copy_is_the_same_branch(model: ModelPatcher, branch: ModelPatcher) -> None:
    applied = apply_retention(prompts(), branch, reference(), 0.7, 0.0, 1.0)
    expected = ksample(model, prompts=applied)
    copied = [[[text, {**extra, "control": extra["control"].copy()}] for text, extra in part] for part in applied]
    assert relative_error(ksample(model, prompts=copied), expected) < 1e-5  # two objects are two calls of the UNet
