"""Strength over time and space, and images in other frames, on a model of the host."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_patcher import ModelPatcher
from comfyui_firstframe_pack.firstframe.bindings.comfy.adapter import apply_adapter
from comfyui_firstframe_pack.firstframe.bindings.comfy.adapter_patches import AdapterPatches, View
from comfyui_firstframe_pack.firstframe.bindings.comfy.first_frame import hold_first_frame
from comfyui_firstframe_pack.firstframe.bindings.comfy.motion import apply_motion
from comfyui_firstframe_pack.firstframe.bindings.comfy.retention import apply_retention
from comfyui_firstframe_pack.firstframe.bindings.comfy.sites import transformer_at, unet_of
from comfyui_firstframe_pack.firstframe.bindings.comfy.windows import apply_windows
from comfyui_firstframe_pack.firstframe.errors import FramesError, ImageError
from comfyui_firstframe_pack.firstframe.modules.i2v_adapter import I2VAdapter
from comfyui_firstframe_pack.firstframe.sampling.guidance import LowPass, softened
from comfyui_firstframe_pack.firstframe.sampling.strength import Curve, StrengthSchedule
from comfyui_firstframe_pack.firstframe.sites import Site
from comfyui_firstframe_pack.nodes.reference import AddImage
from small import (
    FRAMES,
    MAX_FRAMES,
    SIDE,
    conditioning,
    ksample,
    reference,
    reference_latent,
    relative_error,
    small_adapter,
    small_model,
    small_motion,
    small_retention,
    start_latent,
)
from torch import Tensor

pytestmark = pytest.mark.feature("Strength over steps, frames, levels and a mask; further images")

NEUTRAL = StrengthSchedule(Curve(((0.0, 1.0), (1.0, 1.0))), Curve(((0.0, 1.0),)), (1.0,) * 4, torch.ones(1, 20, 20))
HALF = StrengthSchedule(Curve(((0.0, 0.5),)))
LEFT = StrengthSchedule(mask=torch.cat([torch.ones(1, SIDE, SIDE // 2), torch.zeros(1, SIDE, SIDE // 2)], dim=2))


def prompts() -> list[Any]:
    return [conditioning(1), conditioning(2)]


def with_adapter(strength: float, strengths: StrengthSchedule | None) -> Tensor:
    return ksample(apply_adapter(small_model(), small_adapter(), strength, strengths))


def with_branch(strength: float, strengths: StrengthSchedule | None) -> Tensor:
    retained = apply_retention(prompts(), small_retention(), reference(), strength, 0.0, 1.0, strengths)
    return ksample(small_model(), prompts=retained)


@pytest.fixture(params=[with_adapter, with_branch], ids=["adapter", "branch"])
def sample(request: Any) -> Any:
    return request.param


def test_neutral_is_neutral(sample: Any) -> None:
    assert torch.equal(sample(1.0, NEUTRAL), sample(1.0, None))


def test_half_over_all_steps_is_half_the_strength(sample: Any) -> None:
    torch.testing.assert_close(sample(1.0, HALF), sample(0.5, None), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(sample(1.0, HALF), sample(1.0, None))


@pytest.mark.parametrize(
    "off",
    [
        StrengthSchedule(Curve(((0.0, 0.0),))),
        StrengthSchedule(over_frames=Curve(((0.0, 0.0),))),
        StrengthSchedule(levels=(0.0, 0.0)),
        StrengthSchedule(mask=torch.zeros(1, 3, 3)),
    ],
    ids=["steps", "frames", "levels", "mask"],
)
def test_zero_everywhere_is_the_plain_model(sample: Any, off: StrengthSchedule) -> None:
    torch.testing.assert_close(sample(1.0, off), ksample(small_model()), rtol=1e-5, atol=1e-5)


def test_it_follows_the_steps(sample: Any) -> None:
    """Let go at the end of three steps, or at their beginning: neither is the whole nor the other."""
    late, early = (Curve.parse(text) for text in ("0: 0, 0.4: 0, 0.41: 1", "0: 1, 0.4: 1, 0.41: 0"))
    clips = [sample(1.0, StrengthSchedule(over_steps=curve)) for curve in (late, early)] + [sample(1.0, None)]
    for index, clip in enumerate(clips):
        assert not any(torch.allclose(clip, other, rtol=1e-3) for other in clips[index + 1 :])


def residual(view: View, unet: UNetModel, adapter: I2VAdapter, states: Tensor) -> Tensor:
    """What the adapter's patches add to one self-attention whose states nobody else touches."""
    patches = AdapterPatches(unet, adapter, view, {})
    extra = {"block": ("input", 1)}
    patches.compare(*patches.remember(states, states, states, extra), extra)
    return patches.add(torch.zeros_like(states), extra)


def test_a_mask_holds_in_its_place() -> None:
    """One attention: where the mask is black nothing is added, where it is white all of it."""
    unet, adapter = unet_of(small_model().model), small_adapter().model
    x = torch.randn(FRAMES, SIDE * SIDE, 32, generator=torch.Generator().manual_seed(1))

    def added(**view: Any) -> Tensor:
        return residual(View(FRAMES, (SIDE, SIDE), **view), unet, adapter, x).unflatten(1, (SIDE, SIDE))

    def of_mask(size: tuple[int, int], _like: Tensor) -> Tensor:
        assert size == (SIDE, SIDE)
        return LEFT.weights(0.0, range(FRAMES), size, size).flatten(1)[..., None]

    masked, whole = added(weights=of_mask), added()
    assert torch.equal(masked[:, :, : SIDE // 2], whole[:, :, : SIDE // 2])
    assert masked[:, :, SIDE // 2 :].eq(0).all()


def test_frames_look_at_every_clean_frame() -> None:
    """Keys and values of several clean frames stand behind each other."""
    unet, adapter = unet_of(small_model().model), small_adapter().model
    x = torch.randn(2 * FRAMES, SIDE * SIDE, 32, generator=torch.Generator().manual_seed(1))
    found = residual(View(FRAMES, (SIDE, SIDE), clean=[0, 2]), unet, adapter, x)
    site, clips = Site("down", 0, 0), x.unflatten(0, (2, FRAMES))
    attention = transformer_at(unet, site).attn1
    both = torch.cat([clips[:, 0], clips[:, 2]], dim=1)
    expected = adapter(site, clips, attention.to_k(both), attention.to_v(both))
    torch.testing.assert_close(found, expected.flatten(0, 1))


def test_fast_halves_what_the_highest_resolution_attends_to() -> None:
    """Every second token there; elsewhere nothing changes."""
    unet, adapter = unet_of(small_model().model), small_adapter().model
    x = torch.randn(FRAMES, SIDE * SIDE, 32, generator=torch.Generator().manual_seed(1))
    found = residual(View(FRAMES, (SIDE, SIDE), fast=True), unet, adapter, x)
    site = Site("down", 0, 0)
    fewer = x[:1].unflatten(1, (SIDE, SIDE))[:, ::2, ::2].flatten(1, 2)
    attention = transformer_at(unet, site).attn1
    expected = adapter(site, x[None], attention.to_k(fewer), attention.to_v(fewer))
    torch.testing.assert_close(found, expected[0])
    below = View(FRAMES, (2 * SIDE, 2 * SIDE), fast=True)
    assert torch.equal(residual(below, unet, adapter, x), residual(replace(below, fast=False), unet, adapter, x))


@pytest.mark.parametrize("strengths", [None, HALF], ids=["plain", "strengths"])
def test_fast_changes_little(strengths: StrengthSchedule | None) -> None:
    model = apply_motion(small_model(), small_motion(), 1.0, "auto")
    clips = [
        ksample(hold_first_frame(apply_adapter(model, small_adapter(), 1.0, strengths, fast=fast), reference_latent()))
        for fast in (False, True)
    ]
    assert 0 < relative_error(*clips) < 0.2


def two_images(base: ModelPatcher, frame: int) -> ModelPatcher:
    applied = apply_adapter(apply_motion(base, small_motion(), 1.0, "auto"), small_adapter(), 1.0)
    return hold_first_frame(applied, reference_latent(), {frame: -reference_latent()})


@pytest.mark.parametrize("frame", [-1, 1])
def test_every_held_frame_is_exactly_its_image(frame: int) -> None:
    clip = ksample(two_images(small_model(), frame))
    assert torch.allclose(clip[0], reference_latent()[0], atol=1e-6)
    assert torch.allclose(clip[frame], -reference_latent()[0], atol=1e-6)
    alone = hold_first_frame(apply_adapter(small_model(), small_adapter(), 1.0), reference_latent())
    assert not torch.allclose(ksample(alone)[frame], clip[frame], rtol=1e-2)


def test_in_windows_too() -> None:
    clip = ksample(apply_windows(two_images(small_model(), -1), MAX_FRAMES, 2), start_latent(9))
    assert torch.allclose(clip[0], reference_latent()[0], atol=1e-6)
    assert torch.allclose(clip[-1], -reference_latent()[0], atol=1e-6)


@pytest.mark.parametrize("frame", [FRAMES, 40])
def test_a_frame_behind_the_end(frame: int) -> None:
    with pytest.raises(FramesError, match=f"frame {frame}.*0 to {FRAMES - 1}"):
        ksample(two_images(small_model(), frame))


class Encoder:
    """A VAE that averages."""

    def encode(self, image: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(image.movedim(-1, 1), 8).repeat(1, 2, 1, 1)[:, :4]


def test_the_node_adds_an_image_of_the_same_size() -> None:
    first = replace(reference(), latent=reference_latent())
    (added,) = AddImage.execute(first, torch.rand(1, 50, 90, 3), Encoder(), -1, "cover").args
    assert added.others[-1].shape == reference_latent().shape and first.others == {}
    nearest = added.nearest(4)
    assert torch.equal(nearest[:, :, 0], reference_latent()) and torch.equal(nearest[:, :, 1], reference_latent())
    assert torch.equal(nearest[:, :, 2], added.others[-1]) and torch.equal(nearest[:, :, 3], added.others[-1])
    for taken in (0, -1):
        with pytest.raises(ImageError, match="already"):
            AddImage.execute(added, torch.rand(1, 8, 8, 3), Encoder(), taken, "cover")


def softly(low_pass: LowPass) -> Tensor:
    return ksample(apply_adapter(small_model(), small_adapter(), 1.0, low_pass=low_pass))


@pytest.mark.feature("Adaptive low-pass guidance, adapter")
def test_softened_early_steps() -> None:
    """Neutral is bit for bit the plain path, and so is an end that no step reaches before."""
    plain = with_adapter(1.0, None)
    assert torch.equal(softly(LowPass(1.0, 1.0)), plain)
    early, always = softly(LowPass(0.4, 0.2)), softly(LowPass(0.4, 1.0))
    assert not torch.allclose(early, plain, rtol=1e-3)
    assert not torch.allclose(early, always, rtol=1e-3)


@pytest.mark.feature("Adaptive low-pass guidance, adapter")
def test_softened_keys_and_values_only() -> None:
    """As if the clean frame itself were soft, for all frames but that one, whose queries stay."""
    unet, adapter = unet_of(small_model().model), small_adapter().model
    states = torch.randn(FRAMES, 16, 32, generator=torch.Generator().manual_seed(0))
    maps = softened(states[:1].mT.unflatten(2, (4, 4)), 0.5)
    soft_first = torch.cat([maps.flatten(2).mT, states[1:]])
    soft = residual(View(FRAMES, (4, 4), detail=0.5), unet, adapter, states)
    found = [soft, residual(View(FRAMES, (4, 4)), unet, adapter, soft_first)]
    torch.testing.assert_close(found[0][1:], found[1][1:])
    assert not torch.allclose(found[0][0], found[1][0])
