"""Sampling without ComfyUI on tensors that claim to be on "cuda": no step reads from the device or copies to it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from comfyui_firstframe_pack.firstframe.bindings.diffusers import (
    Parts,
    PartScales,
    Prompts,
    SamplingSettings,
    animatediff_scheduler,
    sample,
    sampling,
    unet_config,
)
from comfyui_firstframe_pack.firstframe.clips.reference import Reference
from comfyui_firstframe_pack.firstframe.modules.i2v_adapter import I2VAdapter
from comfyui_firstframe_pack.firstframe.modules.image_prompt import ImageTokenAdapter
from comfyui_firstframe_pack.firstframe.modules.motion import MotionConfig, MotionModule
from comfyui_firstframe_pack.firstframe.modules.retention import RetentionBranch, RetentionConfig
from comfyui_firstframe_pack.firstframe.sampling import prior
from comfyui_firstframe_pack.firstframe.sampling.guidance import DualGuidance
from comfyui_firstframe_pack.firstframe.sampling.schedule import Schedule
from diffusers import UNet2DConditionModel
from on_cuda import OneDevice, fake_cuda

FRAMES, SIDE, WIDTH, TOKENS = 4, 8, 16, 3
PLAIN = SamplingSettings(FRAMES, steps=2, cfg=3.0)
DUAL = replace(PLAIN, guidance=DualGuidance(1.5, 3.0))
REFINED = replace(PLAIN, guidance=DualGuidance(1.5, 3.0, parallel=0.5, rescale=0.5))
CASES: dict[str, tuple[SamplingSettings, set[str], str]] = {
    "text alone": (PLAIN, {"motion"}, "nothing"),
    "plain": (PLAIN, {"motion", "adapter"}, "latent"),
    "plain, nothing held": (replace(PLAIN, hold_first_frame=False), {"motion", "adapter"}, "latent"),
    "dual": (DUAL, {"motion", "adapter"}, "latent"),
    "dual, refined": (REFINED, {"motion", "adapter"}, "latent"),
    "several images": (DUAL, {"motion", "adapter"}, "two latents"),
    "retention": (DUAL, {"motion", "adapter", "retention"}, "latent"),
    "retention from noise": (PLAIN, {"motion", "retention"}, "pixels"),
    "image prompt": (PLAIN, {"motion", "adapter", "image_tokens"}, "latent"),
    "all": (REFINED, {"motion", "adapter", "retention", "image_tokens"}, "two latents"),
}


def small_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=SIDE,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
    ).eval()


def parts_for(unet: UNet2DConditionModel, names: set[str]) -> Parts:
    config = unet_config(unet)
    motion = MotionConfig((32, 64), 1, mid=True, max_frames=8, num_heads=4)
    made = {
        "motion": lambda: MotionModule(motion),
        "adapter": lambda: I2VAdapter(config.attention_sites, 4),
        "image_tokens": lambda: ImageTokenAdapter(config.attention_sites, WIDTH, 4, num_tokens=TOKENS),
        "retention": lambda: RetentionBranch(RetentionConfig(config, replace(motion, mid=False), (4, 4, 8, 8))),
    }
    return Parts(**{name: make() for name, make in made.items() if name in names}, scales=PartScales(adapter=0.7))


def reference_with(what: str) -> Reference | None:
    pixels, latent = torch.rand(1, 3, 8 * SIDE, 8 * SIDE), torch.randn(1, 4, SIDE, SIDE)
    return {
        "nothing": None,
        "pixels": Reference(pixels),
        "latent": Reference(pixels, latent),
        "two latents": Reference(pixels, latent, others={-1: torch.randn(1, 4, SIDE, SIDE)}),
    }[what]


def sampled(monkeypatch: pytest.MonkeyPatch, case: str) -> Counter[str]:
    """The operations of all steps; the schedule, which is read from the CPU, is real."""
    settings, names, shown = CASES[case]
    schedule = Schedule.ddim(animatediff_scheduler().alphas_cumprod, settings.steps)
    monkeypatch.setattr(Schedule, "ddim", lambda *_: schedule)
    monkeypatch.setattr(prior, "gaussian_blur2d", lambda frames, *_: frames)  # kornia reads its sigma, on the CPU
    denoise, watch = sampling.denoise, OneDevice()

    def watched(*arguments: Any) -> torch.Tensor:
        with watch:
            return denoise(*arguments)

    monkeypatch.setattr(sampling, "denoise", watched)
    with fake_cuda():
        with torch.device("cuda"):
            unet = small_unet()
            parts, reference = parts_for(unet, names), reference_with(shown)
            prompts = Prompts(*torch.randn(2, 1, 7 + TOKENS * ("image_tokens" in names), WIDTH))
        clip = sample(unet, parts, prompts, settings, reference, scheduler=animatediff_scheduler())
        assert clip.device.type == "cuda" and clip.shape == (1, 4, FRAMES, SIDE, SIDE)
    return watch.operations


@pytest.mark.parametrize("case", CASES)
def test_no_step_waits_for_the_device(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    assert sampled(monkeypatch, case)["convolution"] > 0


def test_a_wait_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    advance = Schedule.advance

    def reading(self: Schedule, latents: torch.Tensor, denoised: torch.Tensor, step: int) -> torch.Tensor:
        return advance(self, latents, denoised, int(denoised.sum() > 0))

    monkeypatch.setattr(Schedule, "advance", reading)
    with pytest.raises(AssertionError, match="waits for a value"):
        sampled(monkeypatch, "plain")
