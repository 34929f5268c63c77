"""What is applied leaves no trace: the base model, its hooks and its weights are as before, whatever happened."""

from __future__ import annotations

from collections.abc import Iterator

import comfy.model_management
import pytest
import torch
from comfy.model_patcher import ModelPatcher
from comfyui_firstframe_pack.firstframe.bindings.comfy.adapter import apply_adapter
from comfyui_firstframe_pack.firstframe.bindings.comfy.first_frame import hold_first_frame
from comfyui_firstframe_pack.firstframe.bindings.comfy.motion import apply_motion
from comfyui_firstframe_pack.firstframe.errors import FramesError, InjectionError
from small import MAX_FRAMES, ksample, reference_latent, small_adapter, small_model, small_motion, start_latent
from torch import Tensor

pytestmark = pytest.mark.feature("Nothing of the base model is changed")


def image_to_video(base: ModelPatcher, **motion_settings: object) -> ModelPatcher:
    applied = apply_motion(base, small_motion(**motion_settings), 1.0, "auto")
    return hold_first_frame(apply_adapter(applied, small_adapter(), 1.0), reference_latent())


def hooks(base: ModelPatcher) -> int:
    return sum(len(layer._forward_hooks) + len(layer._forward_pre_hooks) for layer in base.model.modules())


@pytest.fixture
def base() -> Iterator[ModelPatcher]:
    """A model that must be the same afterwards: names and bits of its weights, hooks, options, what it samples."""
    model = small_model()
    state = {name: tensor.cpu().clone() for name, tensor in model.model.state_dict().items()}
    options = str(model.model_options)
    clip = ksample(model)
    yield model
    after = model.model.state_dict()
    assert list(after) == list(state)
    assert all(torch.equal(after[name].cpu(), tensor) for name, tensor in state.items())
    assert hooks(model) == 0
    assert str(model.model_options) == options
    assert (model.wrappers, model.additional_models, model.object_patches) == ({}, {}, {})
    assert torch.equal(ksample(model), clip)


@pytest.mark.parametrize("pooled", [True, False])
def test_after_a_run(base: ModelPatcher, pooled: bool) -> None:
    clip = ksample(image_to_video(base, pooled_unet_norms=pooled))
    assert not torch.equal(clip, ksample(base))


def test_after_a_cancelled_run(base: ModelPatcher) -> None:
    model = image_to_video(base, pooled_unet_norms=True)
    clip = ksample(model)

    def cancel(*_: object) -> None:
        raise comfy.model_management.InterruptProcessingException

    def cancel_inside(_layer: object, _inputs: object, _output: object) -> None:
        cancel()

    with pytest.raises(comfy.model_management.InterruptProcessingException):
        ksample(model, callback=cancel)
    cancelling = base.model.diffusion_model.middle_block[0].register_forward_hook(cancel_inside)
    with cancelling, pytest.raises(comfy.model_management.InterruptProcessingException):
        ksample(model)
    assert torch.equal(ksample(model), clip)


def test_after_a_refused_run(base: ModelPatcher) -> None:
    with pytest.raises(FramesError, match=f"positions for {MAX_FRAMES}"):
        ksample(image_to_video(base), start_latent(MAX_FRAMES + 1))


def test_clones_know_nothing_of_each_other(base: ModelPatcher) -> None:
    moving = apply_motion(base, small_motion(), 1.0, "auto")
    clip = ksample(moving)
    adapted = apply_adapter(moving, small_adapter(), 1.0)
    adapted_clip = ksample(adapted)
    weaker = apply_adapter(moving, small_adapter(), 0.5)
    assert not torch.equal(ksample(weaker), adapted_clip)
    assert torch.equal(ksample(moving), clip)
    assert torch.equal(ksample(adapted), adapted_clip)


def test_twice_is_an_error(base: ModelPatcher) -> None:
    moving = apply_motion(base, small_motion(), 1.0, "auto")
    adapted = apply_adapter(moving, small_adapter(), 1.0)
    with pytest.raises(InjectionError, match="motion module"):
        apply_motion(adapted, small_motion(), 1.0, "auto")
    with pytest.raises(InjectionError, match="I2V adapter"):
        apply_adapter(adapted, small_adapter(), 1.0)


def test_an_untrained_adapter_changes_no_bit(base: ModelPatcher) -> None:
    def clip(model: ModelPatcher) -> Tensor:
        return ksample(hold_first_frame(model, reference_latent()))

    moving = apply_motion(base, small_motion(), 1.0, "auto")
    without = clip(moving)
    assert torch.equal(clip(apply_adapter(moving, small_adapter(trained=False), 1.0)), without)
    assert torch.equal(clip(apply_adapter(moving, small_adapter(), 0.0)), without)
    assert not torch.equal(clip(apply_adapter(moving, small_adapter(), 1.0)), without)


def test_motion_of_scale_0_changes_no_bit(base: ModelPatcher) -> None:
    without = ksample(base)
    assert torch.equal(ksample(apply_motion(base, small_motion(), 0.0, "keep")), without)
    assert not torch.equal(ksample(apply_motion(base, small_motion(), 1.0, "keep")), without)
