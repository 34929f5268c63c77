"""Weights that stay where they are stored and are cast layer by layer, which is what --lowvram and --novram do.

The host takes neither option together with --cpu.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from comfy.model_patcher import ModelPatcher
from comfyui_firstframe_pack.firstframe.bindings.comfy.adapter import apply_adapter
from comfyui_firstframe_pack.firstframe.bindings.comfy.first_frame import hold_first_frame
from comfyui_firstframe_pack.firstframe.bindings.comfy.motion import apply_motion
from comfyui_firstframe_pack.firstframe.bindings.comfy.retention import apply_retention
from small import (
    conditioning,
    ksample,
    reference,
    reference_latent,
    small_adapter,
    small_model,
    small_motion,
    small_retention,
)
from torch import Tensor

ALMOST_NOTHING = 1024


@pytest.fixture
def partial_loads(monkeypatch: pytest.MonkeyPatch) -> list[ModelPatcher]:
    """The host loads as if there were a kilobyte. Which models it did so with."""
    loaded = []
    load = ModelPatcher.load

    def load_little(self: ModelPatcher, device_to: Any = None, *_: Any, **__: Any) -> None:
        load(self, device_to, lowvram_model_memory=ALMOST_NOTHING)
        loaded.append(self)

    monkeypatch.setattr(ModelPatcher, "load", load_little)
    return loaded


def changed(patcher: ModelPatcher, name: str) -> ModelPatcher:
    """With one weight patched, as a LoRA does it."""
    weight = patcher.model.state_dict()[name]
    noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(3))
    patcher.add_patches({name: ("diff", (0.3 * noise,))}, 1.0)
    return patcher


def first_weight(patcher: ModelPatcher) -> str:
    return next(name for name in patcher.model.state_dict() if name.endswith("to_q.weight"))


def sample_everything(patched: bool) -> Tensor:
    """Model, motion module, adapter and branch."""
    parts = [small_model(), small_motion(), small_adapter(), small_retention()]
    if patched:
        parts = [changed(part, first_weight(part)) for part in parts]
    model, motion, adapter, retention = parts
    applied = apply_adapter(apply_motion(model, motion, 1.0, "auto"), adapter, 1.0)
    prompts = apply_retention([conditioning(1), conditioning(2)], retention, reference(), 1.0, 0.0, 1.0)
    return ksample(hold_first_frame(applied, reference_latent()), prompts=prompts)


@pytest.mark.feature("Weights cast layer by layer, as --lowvram and --novram do (forced on the CPU)")
@pytest.mark.parametrize("patched", [False, True], ids=["plain", "with patches"])
def test_the_clip_is_the_same(patched: bool, request: pytest.FixtureRequest) -> None:
    expected = sample_everything(patched)
    loaded = request.getfixturevalue("partial_loads")
    found = sample_everything(patched)
    assert len({id(patcher.model) for patcher in loaded}) == 4
    assert all(patcher.model.model_lowvram for patcher in loaded), "some of every part stays outside"
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
