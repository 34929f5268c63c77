"""Stock ControlNets and T2I adapters beside adapter and branch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.controlnet
import comfy.t2i_adapter.adapter
import pytest
import torch
from comfy.model_patcher import ModelPatcher
from comfyui_firstframe_pack.firstframe.bindings.comfy.adapter import apply_adapter
from comfyui_firstframe_pack.firstframe.bindings.comfy.first_frame import hold_first_frame
from comfyui_firstframe_pack.firstframe.bindings.comfy.motion import apply_motion
from comfyui_firstframe_pack.firstframe.bindings.comfy.retention import apply_retention
from comfyui_firstframe_pack.firstframe.sites import UNetConfig
from safetensors.torch import save_file
from small import (
    FRAMES,
    SIDE,
    conditioning,
    controlled,
    ksample,
    randomise,
    reference,
    reference_latent,
    small_adapter,
    small_controlnet,
    small_model,
    small_motion,
    small_retention,
)
from torch import Tensor

FULL_WIDTH = UNetConfig((320,), 1, (True,), num_heads=8, cross_attention_dim=768)
FOUR_LEVELS = UNetConfig((32, 32, 64, 64), 2, (True, True, True, False), num_heads=4, cross_attention_dim=32)


def image_to_video(model: ModelPatcher) -> ModelPatcher:
    moving = apply_motion(model, small_motion(), 1.0, "auto")
    return hold_first_frame(apply_adapter(moving, small_adapter(), 1.0), reference_latent())


def hints(seed: int, frames: int = FRAMES) -> Tensor:
    """An image for each frame, (F, H, W, 3)."""
    return torch.rand(frames, 8 * SIDE, 8 * SIDE, 3, generator=torch.Generator().manual_seed(seed))


def prompts(control: Any, images: Tensor, **settings: Any) -> list[Any]:
    return [controlled(conditioning(seed), images, control, **settings) for seed in (1, 2)]


def retained(conditionings: list[Any], strength: float = 1.0) -> list[Any]:
    return apply_retention(conditionings, small_retention(), reference(), strength, 0.0, 1.0)


@pytest.mark.feature("ControlNet with adapter and retention branch, either order")
def test_a_controlnet_before_and_behind_the_branch() -> None:
    """Their residuals add up, so that the order is of no account."""
    model, control = image_to_video(small_model()), small_controlnet()
    behind = [controlled(one, hints(3), control) for one in retained([conditioning(1), conditioning(2)])]
    before = retained(prompts(control, hints(3)))
    clips = [ksample(model, prompts=both) for both in (before, behind)]
    torch.testing.assert_close(*clips, rtol=1e-3, atol=1e-3)
    alone = [
        ksample(model, prompts=one)
        for one in (prompts(control, hints(3)), retained([conditioning(1), conditioning(2)]))
    ]
    assert all(not torch.allclose(clips[0], one, rtol=1e-2) for one in alone)
    assert all(torch.allclose(clip[0], reference_latent()[0], atol=1e-5) for clip in clips)


@pytest.mark.feature("ControlNet with a hint for each frame")
def test_each_frame_follows_its_own_hint() -> None:
    """Without motion module and adapter, a changed hint changes its own frame alone."""
    base, control, images = small_model(), small_controlnet(), hints(3)
    clip = ksample(base, prompts=prompts(control, images))
    images = images.clone()
    images[1] = 1 - images[1]
    other = ksample(base, prompts=prompts(control, images))
    changed = (clip - other).flatten(1).abs().amax(1) > 1e-3
    assert changed.tolist() == [frame == 1 for frame in range(FRAMES)]


@pytest.mark.feature("ControlNet start and end")
@pytest.mark.parametrize("percents", [(0.0, 0.0), (0.5, 1.0), (0.0, 0.5)])
def test_start_and_end(percents: tuple[float, float]) -> None:
    model, control = image_to_video(small_model()), small_controlnet()
    whole = ksample(model, prompts=retained(prompts(control, hints(3))))
    part = ksample(model, prompts=retained(prompts(control, hints(3), timestep_percent_range=percents)))
    without = ksample(model, prompts=retained([conditioning(1), conditioning(2)]))
    assert not torch.allclose(part, whole, rtol=1e-3)
    assert torch.allclose(part, without, rtol=1e-3, atol=1e-2) == (percents == (0.0, 0.0))


@pytest.mark.feature("ControlNet from a file in the published layout")
def test_a_controlnet_file(tmp_path: Path) -> None:
    """SD1.5's width with one level, which the host's loader takes for Stable Diffusion 1.5."""
    built = small_controlnet(FULL_WIDTH).control_model
    state = {f"control_model.{name}": tensor for name, tensor in built.state_dict().items()}
    save_file(state, tmp_path / "control_test.safetensors")
    loaded = comfy.controlnet.load_controlnet(str(tmp_path / "control_test.safetensors"))
    base = small_model(FULL_WIDTH)
    adapted = hold_first_frame(apply_adapter(base, small_adapter(FULL_WIDTH), 1.0), reference_latent())
    text = [[[torch.randn(1, 77, 768, generator=torch.Generator().manual_seed(seed)), {}]] for seed in (1, 2)]
    clips = [
        ksample(adapted, prompts=[controlled(one, hints(3), control) for one in text])
        for control in (loaded, small_controlnet(FULL_WIDTH))
    ]
    torch.testing.assert_close(*clips, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(ksample(adapted, prompts=text), clips[0], rtol=1e-2)
    assert torch.allclose(clips[0][0], reference_latent()[0], atol=1e-5)


@pytest.mark.feature("T2I adapter with adapter and retention branch")
def test_a_t2i_adapter() -> None:
    network = comfy.t2i_adapter.adapter.Adapter(
        cin=3 * 64, channels=list(FOUR_LEVELS.block_out_channels), nums_rb=2, ksize=1, sk=True, use_conv=False, xl=False
    )
    control = comfy.controlnet.T2IAdapter(randomise(network, 13), network.input_channels, 8, "nearest-exact")
    base = small_model(FOUR_LEVELS)
    adapted = hold_first_frame(apply_adapter(base, small_adapter(FOUR_LEVELS), 1.0), reference_latent())
    both = apply_retention(prompts(control, hints(3)), small_retention(FOUR_LEVELS), reference(), 1.0, 0.0, 1.0)
    clip, without = (ksample(adapted, prompts=one) for one in (both, retained_four_levels()))
    assert clip.isfinite().all() and not torch.allclose(clip, without, rtol=1e-2)
    assert torch.allclose(clip[0], reference_latent()[0], atol=1e-5)


def retained_four_levels() -> list[Any]:
    plain = [conditioning(1), conditioning(2)]
    return apply_retention(plain, small_retention(FOUR_LEVELS), reference(), 1.0, 0.0, 1.0)
