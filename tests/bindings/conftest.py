"""A small UNet of the SD1.5 type, one level of it without attention, and random parts for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from firstframe.bindings.diffusers import Retention, unet_config
from firstframe.modules.i2v_adapter import I2VAdapter
from firstframe.modules.image_prompt import ImageTokenAdapter
from firstframe.modules.motion import MotionConfig, MotionModule
from firstframe.modules.retention import RetentionBranch, RetentionConfig

CONFIG: dict[str, Any] = {
    "sample_size": 8,
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 16,
    "attention_head_dim": 4,
}


def randomised(module: nn.Module, seed: int) -> nn.Module:
    generator = torch.Generator("cpu").manual_seed(seed)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.2, generator=generator)
    return module


@pytest.fixture
def make_unet() -> Callable[..., UNet2DConditionModel]:
    """Makes the small UNet, with changes to its configuration."""

    def make(**changes: Any) -> UNet2DConditionModel:
        torch.manual_seed(0)
        return UNet2DConditionModel(**CONFIG | changes).eval().requires_grad_(False)

    return make


@pytest.fixture
def unet(make_unet: Callable[..., UNet2DConditionModel]) -> UNet2DConditionModel:
    """The small UNet."""
    return make_unet()


@pytest.fixture
def make_motion() -> Callable[..., MotionModule]:
    """Makes a random motion module for the small UNet, with changes to its configuration."""

    def make(**changes: Any) -> nn.Module:
        config = {"block_out_channels": (32, 64), "layers_per_block": 1, "mid": True, "max_frames": 8}
        return randomised(MotionModule(MotionConfig(**config | {"num_heads": 4} | changes)), 1)

    return make


@pytest.fixture
def motion(make_motion: Callable[..., MotionModule]) -> MotionModule:
    """A random motion module with a middle, for up to 8 frames."""
    return make_motion()


@pytest.fixture
def adapter(unet: UNet2DConditionModel) -> nn.Module:
    """A random I2V adapter."""
    return randomised(I2VAdapter(unet_config(unet).attention_sites, 4), 2)


@pytest.fixture
def image_tokens(unet: UNet2DConditionModel) -> nn.Module:
    """Random projections for 3 image tokens."""
    return randomised(ImageTokenAdapter(unet_config(unet).attention_sites, 16, 4, num_tokens=3), 3)


@pytest.fixture
def image() -> Tensor:
    """A random image of 64 x 64 pixels."""
    return torch.rand(1, 3, 64, 64, generator=torch.Generator("cpu").manual_seed(7))


@pytest.fixture
def retention(unet: UNet2DConditionModel, motion: MotionModule, image: Tensor) -> Retention:
    """A random frame retention branch and the features of ``image``."""
    config = RetentionConfig(unet_config(unet), replace(motion.config, mid=False), stem_channels=(4, 4, 8, 8))
    branch = randomised(RetentionBranch(config), 4)
    with torch.no_grad():
        return Retention(branch, branch.encode(image))
