"""Anchored context windows: long clips a piece at a time, every piece with the image."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from comfyui_firstframe_pack.firstframe.bindings.comfy.adapter import apply_adapter
from comfyui_firstframe_pack.firstframe.bindings.comfy.first_frame import hold_first_frame
from comfyui_firstframe_pack.firstframe.bindings.comfy.motion import apply_motion
from comfyui_firstframe_pack.firstframe.bindings.comfy.retention import apply_retention
from comfyui_firstframe_pack.firstframe.bindings.comfy.windows import apply_windows
from comfyui_firstframe_pack.firstframe.errors import FramesError
from small import (
    FRAMES,
    MAX_FRAMES,
    SIDE,
    conditioning,
    controlled,
    ksample,
    reference,
    reference_latent,
    relative_error,
    small_adapter,
    small_controlnet,
    small_model,
    small_motion,
    small_retention,
    start_latent,
)
from torch import Tensor

pytestmark = pytest.mark.feature("More frames than the motion module knows (Context Windows, anchored)")

LONG = 11
OVERLAP = 2


def image_to_video(base: ModelPatcher) -> ModelPatcher:
    moving = apply_motion(base, small_motion(), 1.0, "auto")
    return hold_first_frame(apply_adapter(moving, small_adapter(), 1.0), reference_latent())


def windowed(model: ModelPatcher) -> ModelPatcher:
    return apply_windows(model, MAX_FRAMES, OVERLAP)


def seen_windows(model: ModelPatcher) -> list[list[int]]:
    """Fills up with the frames that each call of the UNet sees."""
    seen: list[list[int]] = []

    def watch(executor: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        options = kwargs.get("transformer_options") or args[4]
        seen.append(options["context_window"].index_list)
        return executor(x, *args, **kwargs)

    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "watch", watch)
    return seen


def test_a_clip_that_fits_is_sampled_as_ever() -> None:
    model = image_to_video(small_model())
    assert torch.equal(ksample(windowed(model)), ksample(model))


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m", "uni_pc"])
def test_a_long_clip_begins_with_the_image_in_every_window(sampler: str) -> None:
    model = windowed(image_to_video(small_model(strength=0.1)))
    seen = seen_windows(model)
    clip = ksample(model, start_latent(LONG), sampler_name=sampler)
    assert torch.allclose(clip[:1], reference_latent(), atol=1e-5)
    assert clip.isfinite().all() and len(clip) == LONG
    assert all(len(window) == MAX_FRAMES and window[0] == 0 for window in seen)
    assert {frame for window in seen for frame in window} == set(range(LONG))


def test_without_windows_it_is_refused() -> None:
    with pytest.raises(FramesError, match="context window"):
        ksample(image_to_video(small_model()), start_latent(LONG))


def test_frames_that_do_not_see_each_other_do_not_notice() -> None:
    """Without motion module and adapter, windows change nothing; each frame keeps its own hint and mask."""
    base, control = small_model(), small_controlnet()
    generator = torch.Generator().manual_seed(12)
    hints = torch.rand(LONG, 8 * SIDE, 8 * SIDE, 3, generator=generator)
    positive = controlled(conditioning(1), hints, control)
    positive[0][1]["mask"] = torch.rand(LONG, SIDE, SIDE, generator=generator)
    prompts = [positive, conditioning(2)]
    whole = ksample(base, start_latent(LONG), prompts=prompts)
    assert relative_error(ksample(windowed(base), start_latent(LONG), prompts=prompts), whole) < 1e-3
    without = ksample(base, start_latent(LONG), prompts=[conditioning(1), conditioning(2)])
    assert not torch.allclose(without, whole, rtol=1e-2)
    assert control.cond_hint is None and positive[0][1]["control"].cond_hint_original.shape[0] == LONG


def test_the_branch_and_a_hint_for_each_frame_go_together() -> None:
    model = windowed(image_to_video(small_model()))
    hints = torch.rand(LONG, 8 * SIDE, 8 * SIDE, 3, generator=torch.Generator().manual_seed(12))
    prompts = [controlled(conditioning(seed), hints, small_controlnet()) for seed in (1, 2)]
    plain = ksample(model, start_latent(LONG), prompts=prompts)
    retained = apply_retention(prompts, small_retention(), reference(), 1.0, 0.0, 1.0)
    clip = ksample(model, start_latent(LONG), prompts=retained)
    assert clip.isfinite().all() and not torch.allclose(clip, plain, rtol=1e-2)


def test_the_model_that_came_in_has_no_windows() -> None:
    model = image_to_video(small_model())
    windowed(model)
    assert "context_handler" not in model.model_options
    assert len(ksample(model)) == FRAMES


def test_too_much_overlap() -> None:
    with pytest.raises(FramesError, match="overlap"):
        apply_windows(small_model(), 5, 4)
