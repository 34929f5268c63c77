"""Adapters and branches to train: on Stable Diffusion 1.5's UNet and on SDXL's, by the same calls."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from firstframe.bindings.diffusers import Retention, inject, transformer_block, unet_config
from firstframe.modules.motion import MotionConfig, MotionModule
from firstframe.training.start import new_adapter, new_retention

FRAMES, SIDE, TEXT, POOLED = 3, 8, 16, 8
COMMON: dict[str, Any] = {"sample_size": SIDE, "layers_per_block": 1, "cross_attention_dim": TEXT}
UNETS: dict[str, dict[str, Any]] = {
    "SD15": {
        "block_out_channels": (32, 64),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "attention_head_dim": 4,
    },
    "SDXL": {
        "block_out_channels": (32, 64, 128),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": (1, 1, 2),
        "transformer_layers_per_block": (1, 1, 2),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": POOLED + 6 * 256,
    },
}


@pytest.fixture(params=UNETS)
def unet(request: pytest.FixtureRequest) -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(**COMMON, **UNETS[request.param]).requires_grad_(False)


@pytest.fixture
def motion(unet: UNet2DConditionModel) -> MotionModule:
    config = MotionConfig(unet_config(unet).block_out_channels, 1, mid=False, max_frames=8, num_heads=4)
    return MotionModule(config).requires_grad_(False)


def told(unet: UNet2DConditionModel) -> dict[str, Tensor]:
    """What an SDXL UNet is told beside the text."""
    if unet.config.addition_embed_type is None:
        return {}
    pooled = torch.randn(1, POOLED, generator=torch.Generator().manual_seed(1))
    return {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": torch.tensor([[64.0, 64, 0, 0, 64, 64]])}}


def predict(unet: UNet2DConditionModel) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    noisy = torch.randn(FRAMES, 4, SIDE, SIDE, generator=generator)
    return unet(noisy, 401, torch.randn(1, 7, TEXT, generator=generator), **told(unet)).sample


def test_an_adapter_starts_at_the_base_and_learns_everywhere(unet: UNet2DConditionModel, motion: MotionModule) -> None:
    adapter = new_adapter(unet)
    for site in adapter:
        assert torch.equal(adapter[site].to_q.weight, transformer_block(unet, site).attn1.to_q.weight)
    with inject(unet, motion, num_frames=FRAMES):
        plain = predict(unet)
    with inject(unet, motion, adapter, num_frames=FRAMES):
        found = predict(unet)
        assert torch.equal(found, plain)
        torch.autograd.backward(found.square().mean())
    assert all(adapter[site].to_out.weight.grad.abs().sum() > 0 for site in adapter)


def test_a_branch_starts_as_the_bases_copy_and_learns(unet: UNet2DConditionModel, motion: MotionModule) -> None:
    branch = new_retention(unet, motion, (4, 4, 8, 8))
    copied = branch.state_dict()
    base = unet.state_dict()
    names = [name for name in base if name.startswith(("down_blocks.", "time_embedding.", "add_embedding."))]
    assert names and all(torch.equal(copied[name], base[name]) for name in names)
    with inject(unet, motion, num_frames=FRAMES):
        plain = predict(unet)
    image = torch.rand(1, 3, 8 * SIDE, 8 * SIDE, generator=torch.Generator().manual_seed(3))
    with inject(unet, motion, num_frames=FRAMES) as injection:
        injection.retention = Retention(branch, branch.encode(image))
        found = predict(unet)
        assert torch.equal(found, plain)
        torch.autograd.backward(found.square().mean())
    assert all(projection.weight.grad.abs().sum() > 0 for projection in branch.projections)
