"""Motion LoRAs change a motion module as the same change in its weights does, and only where they were asked to."""

from __future__ import annotations

import pytest
import torch
from comfyui_firstframe_pack.firstframe.bindings.comfy.motion import add_motion_lora, apply_motion
from comfyui_firstframe_pack.firstframe.errors import ModelMismatchError
from small import ksample, small_model, small_motion
from torch import Tensor

pytestmark = pytest.mark.feature("Motion LoRA")

LAYERS = ("sites.down_0_0.attentions.0.to_q", "sites.up_0_1.attentions.1.to_out")


@pytest.fixture
def lora() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(5)
    weights, halves = small_motion().model.state_dict(), {}
    for layer in LAYERS:
        width = len(weights[f"{layer}.weight"])
        halves[f"{layer}.lora_up.weight"] = torch.randn(width, 2, generator=generator)
        halves[f"{layer}.lora_down.weight"] = torch.randn(2, width, generator=generator)
    return halves


@pytest.mark.parametrize("strength", [1.0, -0.5])
def test_it_is_the_change_of_the_weights(lora: dict[str, Tensor], strength: float) -> None:
    base, baked = small_model(), small_motion()
    for layer in LAYERS:
        up, down = lora[f"{layer}.lora_up.weight"], lora[f"{layer}.lora_down.weight"]
        baked.model.get_parameter(f"{layer}.weight").data += strength * up @ down
    changed = add_motion_lora(small_motion(), lora, strength)
    clips = [ksample(apply_motion(base, motion, 1.0, "auto")) for motion in (changed, baked)]
    assert torch.allclose(*clips, rtol=1e-3, atol=1e-3)


def test_the_motion_module_itself_stays_as_it_was(lora: dict[str, Tensor]) -> None:
    base, motion = small_model(), small_motion()
    before = ksample(apply_motion(base, motion, 1.0, "auto"))
    changed = add_motion_lora(motion, lora, 1.0)
    assert not torch.equal(ksample(apply_motion(base, changed, 1.0, "auto")), before)
    assert torch.equal(ksample(apply_motion(base, motion, 1.0, "auto")), before)
    off = add_motion_lora(motion, lora, 0.0)
    assert torch.equal(ksample(apply_motion(base, off, 1.0, "auto")), before)


def test_two_halves_are_one(lora: dict[str, Tensor]) -> None:
    base, motion = small_model(), small_motion()
    whole = add_motion_lora(motion, lora, 0.8)
    twice = add_motion_lora(add_motion_lora(motion, lora, 0.3), lora, 0.5)
    clips = [ksample(apply_motion(base, one, 1.0, "auto")) for one in (whole, twice)]
    assert torch.allclose(*clips, rtol=1e-3, atol=1e-3)


def test_one_for_another_module_is_refused(lora: dict[str, Tensor]) -> None:
    wider = {name: torch.cat([half, half], int(".lora_down" in name)) for name, half in lora.items()}
    with pytest.raises(ModelMismatchError, match="motion LoRA"):
        add_motion_lora(small_motion(), wider, 1.0)
    elsewhere = {name.replace("down_0_0", "down_7_0"): half for name, half in lora.items()}
    with pytest.raises(ModelMismatchError, match="down_7_0"):
        add_motion_lora(small_motion(), elsewhere, 1.0)
