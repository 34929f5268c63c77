"""Fixtures that many tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from firstframe.bindings.diffusers import unet_config
from firstframe.modules.i2v_adapter import I2VAdapter
from firstframe.modules.motion import MotionConfig, MotionModule
from firstframe.modules.retention import RetentionBranch, RetentionConfig
from firstframe.tiny.model import TinyModel

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def oracle_dir() -> Path:
    """Folder of the official implementation's inputs and outputs; FIRSTFRAME_ORACLE names another one."""
    return Path(os.environ.get("FIRSTFRAME_ORACLE", Path(__file__).parent / "data" / "official_oracle"))


@pytest.fixture(scope="session")
def expected(oracle_dir: Path) -> dict[str, Tensor]:
    """Inputs and outputs of the official implementation."""
    return load_file(oracle_dir / "expected.safetensors")


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded CPU generator."""
    return torch.Generator("cpu").manual_seed(0)


class SmallModel(TinyModel):
    """In place of the shipped model: a small random UNet, and images shrunk eight times for latents."""

    def encode_text(self, prompts: list[str]) -> Tensor:
        seeds = [torch.Generator().manual_seed(sum(prompt.encode())) for prompt in prompts]
        return torch.stack([torch.randn(5, 16, generator=seed) for seed in seeds])

    def encode(self, images: Tensor) -> Tensor:
        return functional.pad(functional.avg_pool2d(images * 2 - 1, 8), (0, 0, 0, 0, 0, 1))

    def decode(self, latents: Tensor) -> Tensor:
        return functional.interpolate(latents[:, :3] / 2 + 0.5, scale_factor=8).clamp(0, 1)


@pytest.fixture(scope="session")
def small_model() -> TinyModel:
    """What `load_tiny` returns, in small, with random weights."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        block_out_channels=(32, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        cross_attention_dim=16,
        attention_head_dim=4,
    )
    motion = MotionModule(MotionConfig((32, 32), 1, mid=True, max_frames=16, num_heads=4))
    adapter = I2VAdapter(unet_config(unet).attention_sites, 4)
    retention = RetentionBranch(RetentionConfig(unet_config(unet), replace(motion.config, mid=False), (4, 4, 4, 8)))
    for part in (motion, adapter, retention):
        for parameter in part.parameters():
            nn.init.normal_(parameter, std=0.1)
    parts = (unet.eval().requires_grad_(False), motion, adapter, retention)
    return SmallModel(nn.Identity(), nn.Identity(), *parts)


NAMES_IN_DIFFUSERS = {
    "norm.": "norm.",
    "proj_in.": "proj_in.",
    "norms.0.": "transformer_blocks.0.norm1.",
    "norms.1.": "transformer_blocks.0.norm2.",
    "attentions.0.to_out.": "transformer_blocks.0.attn1.to_out.0.",
    "attentions.1.to_out.": "transformer_blocks.0.attn2.to_out.0.",
    "attentions.0.pe": "transformer_blocks.0.pos_embed.pe",
    "attentions.0.": "transformer_blocks.0.attn1.",
    "attentions.1.": "transformer_blocks.0.attn2.",
    "ff_norm.": "transformer_blocks.0.norm3.",
    "ff.proj.": "transformer_blocks.0.ff.net.0.proj.",
    "ff.out.": "transformer_blocks.0.ff.net.2.",
    "proj_out.": "proj_out.",
}


@pytest.fixture
def diffusers_names() -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """Renames the state dict of one site of our motion module to diffusers' names."""

    def rename(state: dict[str, Tensor]) -> dict[str, Tensor]:
        renamed = {}
        for name, tensor in state.items():
            prefix = next(p for p in NAMES_IN_DIFFUSERS if name.startswith(p))
            renamed[NAMES_IN_DIFFUSERS[prefix] + name.removeprefix(prefix)] = tensor
        del renamed["transformer_blocks.0.attn2.pe"]  # diffusers shares one table between the attentions
        return renamed

    return rename
