"""SDXL's UNet, small: what is known about it, and a clip sampled with every module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from firstframe.bindings.diffusers import (
    Parts,
    Pooled,
    Prompts,
    SamplingSettings,
    animatediff_scheduler,
    inject,
    sample,
    unet_config,
)
from firstframe.clips.reference import Reference
from firstframe.errors import ModelMismatchError
from firstframe.modules.i2v_adapter import I2VAdapter
from firstframe.modules.image_prompt import ImageTokenAdapter
from firstframe.modules.layers import pooled_with_sizes, timestep_embedding
from firstframe.modules.motion import MotionConfig, MotionModule
from firstframe.modules.retention import RetentionBranch, RetentionConfig
from firstframe.sampling.guidance import DualGuidance
from firstframe.sites import UNetConfig

FRAMES, SIDE, TEXT, POOLED, TOKENS = 3, 8, 16, 8, 2
CONFIG: dict[str, Any] = {
    "sample_size": SIDE,
    "block_out_channels": (32, 64, 128),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "cross_attention_dim": TEXT,
    "transformer_layers_per_block": (1, 1, 2),
    "attention_head_dim": (1, 1, 2),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": POOLED + 6 * 256,
}
EXPECTED = UNetConfig(
    (32, 64, 128), 1, (False, True, True), None, TEXT, depths=(1, 1, 2), head_channels=64, pooled_channels=1544
)


@pytest.fixture
def sdxl() -> Callable[..., UNet2DConditionModel]:
    def make(**changes: Any) -> UNet2DConditionModel:
        torch.manual_seed(0)
        return UNet2DConditionModel(**CONFIG | changes).eval().requires_grad_(False)

    return make


def test_the_configuration_is_read(sdxl: Callable[..., UNet2DConditionModel]) -> None:
    assert unet_config(sdxl()) == EXPECTED


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"addition_embed_type": None, "use_linear_projection": True}, "Stable Diffusion 2"),
        ({"attention_head_dim": (1, 2, 2)}, r"heads are \[32, 64\] channels wide"),
    ],
)
def test_another_unet_is_refused(sdxl: Callable[..., UNet2DConditionModel], changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelMismatchError, match=says):
        unet_config(sdxl(**changes))


def test_heads_that_are_not_the_unets(sdxl: Callable[..., UNet2DConditionModel]) -> None:
    adapter = I2VAdapter(EXPECTED.attention_sites, 1)
    with pytest.raises(ModelMismatchError, match="has 1 attention heads at down_2_0, the UNet has 2"):
        inject(sdxl(), adapter=adapter, num_frames=FRAMES)


def randomised(module: nn.Module, seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.2, generator=generator)
    return module


def parts(motion: MotionConfig) -> Parts:
    sites = EXPECTED.attention_sites
    return Parts(
        randomised(MotionModule(motion), 1),
        randomised(I2VAdapter(sites, EXPECTED.heads), 2),
        randomised(ImageTokenAdapter(sites, TEXT, EXPECTED.heads, TOKENS), 3),
        randomised(RetentionBranch(RetentionConfig(EXPECTED, motion, (4, 4, 8, 8))), 4),
    )


def told(pooled: Tensor) -> Prompts:
    generator = torch.Generator().manual_seed(5)
    text, negative = torch.randn(2, 1, 7 + TOKENS, TEXT, generator=generator)
    return Prompts(text, negative, Pooled(pooled, torch.zeros_like(pooled), torch.tensor([[64.0, 64, 0, 0, 64, 64]])))


@pytest.mark.parametrize("betas", ["animatediff_sdxl", "sdxl"])
def test_a_clip_follows_the_pooled_text(sdxl: Callable[..., UNet2DConditionModel], betas: Any) -> None:
    motion = MotionConfig((32, 64, 128), 1, False, 8, 4, norm_over_frames=betas != "sdxl", betas=betas)
    image = torch.rand(1, 3, 8 * SIDE, 8 * SIDE, generator=torch.Generator().manual_seed(6))
    reference = Reference(image, torch.randn(1, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(7)))
    settings = SamplingSettings(FRAMES, steps=2, seed=1, guidance=DualGuidance(1.5, 2.0))
    clips = [
        sample(sdxl(), parts(motion), told(pooled), settings, reference, latent_scale=0.13025)
        for pooled in (torch.ones(1, POOLED), -torch.ones(1, POOLED))
    ]
    assert clips[0].isfinite().all() and not torch.allclose(*clips, rtol=1e-3)
    assert all(torch.allclose(clip[0, :, 0], 0.13025 * reference.latent[0], atol=1e-6) for clip in clips)


def test_the_schedule_follows_the_motion_module() -> None:
    ends = {name: animatediff_scheduler(name).config.beta_end for name in (None, "animatediff_sdxl", "sdxl")}
    assert ends == {None: 0.012, "animatediff_sdxl": 0.020, "sdxl": 0.012}
    assert animatediff_scheduler("sdxl").config.beta_schedule == "scaled_linear"


def test_image_sizes_are_embedded_as_timesteps_are() -> None:
    pooled, sizes = torch.randn(2, POOLED), torch.tensor([[64.0, 64, 0, 0, 64, 64], [8.0, 16, 0, 0, 8, 16]])
    found = pooled_with_sizes(pooled, sizes)
    assert found.shape == (2, POOLED + 6 * 256)
    assert torch.equal(found[:, :POOLED], pooled)
    assert torch.equal(found[1, POOLED + 256 : POOLED + 512], timestep_embedding(torch.tensor([16.0]), 256)[0])
