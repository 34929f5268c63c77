"""SDXL's parts on tensors that claim to be on a GPU, as in test_nodes_on_cuda.py."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from comfy.model_patcher import ModelPatcher
from comfyui_firstframe_pack.firstframe.bindings.comfy.adapter import apply_adapter
from comfyui_firstframe_pack.firstframe.bindings.comfy.build import host_config
from comfyui_firstframe_pack.firstframe.bindings.comfy.first_frame import hold_first_frame
from comfyui_firstframe_pack.firstframe.bindings.comfy.image_tokens import apply_image_tokens, with_tokens
from comfyui_firstframe_pack.firstframe.bindings.comfy.motion import apply_motion
from comfyui_firstframe_pack.firstframe.bindings.comfy.retention import apply_retention
from comfyui_firstframe_pack.firstframe.bindings.comfy.weights import managed
from comfyui_firstframe_pack.firstframe.modules.i2v_adapter import I2VAdapter
from comfyui_firstframe_pack.firstframe.modules.image_prompt import ImageTokenAdapter
from comfyui_firstframe_pack.firstframe.modules.motion import MotionConfig, MotionModule
from comfyui_firstframe_pack.firstframe.modules.retention import RetentionBranch, RetentionConfig
from small import MAX_FRAMES
from small_sdxl import POOLED, SMALL_SDXL
from test_nodes_on_cuda import (
    CUDA,
    DUAL,
    PLAIN,
    Case,
    latent,
    no_memory_manager,  # noqa: F401
    part,
    pytestmark,  # noqa: F401
    reference,
    waits_of,
)

MOTION = partial(MotionConfig, SMALL_SDXL.block_out_channels, SMALL_SDXL.layers_per_block, False, MAX_FRAMES, 4)


def base() -> ModelPatcher:
    description = host_config(SMALL_SDXL)
    description.set_inference_dtype(torch.float16, None)
    with CUDA:
        return managed(description.get_model({}, device=CUDA), CUDA)


def prompts() -> list[Any]:
    """As the host's text encoders return them, on the CPU."""
    extra = {"pooled_output": torch.randn(1, POOLED)}
    return [[[torch.randn(1, 77, SMALL_SDXL.cross_attention_dim), extra]] for _ in range(2)]


def adapted(model: ModelPatcher, **settings: Any) -> ModelPatcher:
    moving = apply_motion(model, part(MotionModule, MOTION(**settings)), 1.0, "keep")
    adapter = part(I2VAdapter, SMALL_SDXL.attention_sites, SMALL_SDXL.heads)
    return hold_first_frame(apply_adapter(moving, adapter, 1.0), latent())


def retained(both: list[Any]) -> list[Any]:
    config = RetentionConfig(SMALL_SDXL, MOTION(norm_over_frames=True), (4, 4, 8, 8))
    return apply_retention(both, part(RetentionBranch, config), reference(), 1.0, 0.0, 1.0)


CASES = {
    "AnimateDiff": Case(lambda model: adapted(model, norm_over_frames=True)),
    "Hotshot-XL": Case(lambda model: adapted(model, pooled_unet_norms=True)),
    "retention": Case(adapted, retained),
    "retention, dual guidance": Case(adapted, retained, DUAL),
}


@pytest.mark.parametrize("name", CASES)
def test_nothing_mixes_devices_and_nothing_waits(name: str) -> None:
    case, both = CASES[name], prompts()
    hosts_own = waits_of(Case(), base(), both)
    found = waits_of(case, case.model(base()), case.prompts(both))
    assert [wait for wait in found if wait not in hosts_own] == case.waits


@pytest.mark.parametrize("guidance", [PLAIN, DUAL], ids=["plain", "dual"])
def test_image_tokens(guidance: Any) -> None:
    tokens = part(ImageTokenAdapter, SMALL_SDXL.attention_sites, 32, SMALL_SDXL.heads, 16)
    model, carrying = adapted(base()), [with_tokens(one, torch.randn(1, 16, 32)) for one in prompts()]
    hosts_own = waits_of(Case(), base(), prompts())
    found = waits_of(Case(guidance=guidance), apply_image_tokens(model, tokens, 0.8), carrying)
    assert not [wait for wait in found if wait not in hosts_own]
