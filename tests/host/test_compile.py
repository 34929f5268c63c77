"""Under torch.compile the UNet with our modules in it is one graph: nothing in an evaluation breaks it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import comfy.ldm.modules.attention
import comfy.sample
import comfy.samplers
import pytest
import torch
from comfy.ldm.modules.attention import attention_pytorch
from comfy.model_patcher import ModelPatcher
from comfy_api.torch_helpers import set_torch_compile_wrapper
from comfyui_firstframe_pack.firstframe.bindings.comfy import weights
from comfyui_firstframe_pack.firstframe.bindings.comfy.adapter import apply_adapter
from comfyui_firstframe_pack.firstframe.bindings.comfy.first_frame import hold_first_frame
from comfyui_firstframe_pack.firstframe.bindings.comfy.guidance import DualGuider
from comfyui_firstframe_pack.firstframe.bindings.comfy.motion import apply_motion
from comfyui_firstframe_pack.firstframe.sampling.guidance import DualGuidance
from comfyui_firstframe_pack.firstframe.sampling.strength import Curve, StrengthSchedule
from small import conditioning, reference_latent, small_adapter, small_model, small_motion, start_latent
from torch._dynamo.utils import counters

STRENGTHS = StrengthSchedule(Curve.parse("0: 1, 1: 0.5"), Curve.parse("0: 1, 2: 0"))


@pytest.fixture(autouse=True)
def fresh_compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No graph of another test is used again. Attention is PyTorch's, as on a card."""
    monkeypatch.setattr(comfy.ldm.modules.attention, "optimized_attention", attention_pytorch)
    monkeypatch.setattr(weights, "optimized_attention", attention_pytorch)
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def compiled(model: ModelPatcher) -> ModelPatcher:
    """What the node TorchCompileModel does, without a code generator."""
    model = model.clone()
    set_torch_compile_wrapper(model, backend="eager")
    return model


def in_motion(strengths: StrengthSchedule | None = None) -> ModelPatcher:
    """The small model with a motion module, a held first frame and an adapter."""
    moving = hold_first_frame(apply_motion(small_model(), small_motion(), 1.0, "auto"), reference_latent())
    return apply_adapter(moving, small_adapter(), 1.0, strengths)


def guided(model: ModelPatcher) -> comfy.samplers.CFGGuider:
    """By text, two branches."""
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(conditioning(1), conditioning(2))
    guider.set_cfg(3.0)
    return guider


def dually_guided(model: ModelPatcher) -> comfy.samplers.CFGGuider:
    """By text and image, three branches."""
    guider = DualGuider(model, DualGuidance(1.5, 3.0))
    guider.set_conds(conditioning(1), conditioning(2))
    return guider


STEPS: dict[str, Callable[[], comfy.samplers.CFGGuider]] = {
    "base": lambda: guided(compiled(small_model())),
    "motion": lambda: guided(compiled(apply_motion(small_model(), small_motion(), 1.0, "auto"))),
    "motion and adapter": lambda: guided(compiled(in_motion())),
    "dual guidance": lambda: dually_guided(compiled(in_motion())),
    "strengths": lambda: guided(compiled(in_motion(STRENGTHS))),
}


def sample(guider: comfy.samplers.CFGGuider) -> None:
    """Two steps."""
    latent, euler = start_latent(), comfy.samplers.sampler_object("euler")
    guider.sample(
        comfy.sample.prepare_noise(latent, 5), latent, euler, torch.tensor([5.0, 2.0, 1.0]), disable_pbar=True
    )


@pytest.mark.parametrize("name", STEPS)
def test_a_step_is_one_graph(name: str) -> None:
    sample(STEPS[name]())
    assert sum(counters["graph_break"].values()) == 0, dict(counters["graph_break"])
    # A strength that changes over the steps is compiled once as a number, and once more as a variable.
    assert counters["stats"]["unique_graphs"] == (2 if name == "strengths" else 1)
