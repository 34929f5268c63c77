"""Every part and combination on tensors that claim to be on a GPU: nothing mixes devices, nothing waits.

Two steps are evaluated as the host's samplers do. The first may bring to the device what a sampling needs; in the
second the list of what may still wait stands in each case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import comfy.cldm.cldm
import comfy.controlnet
import comfy.ldm.modules.attention
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.sampler_helpers
import comfy.samplers
import pytest
import torch
from comfy.model_patcher import ModelPatcher
from comfyui_firstframe_pack.firstframe.bindings.comfy import weights
from comfyui_firstframe_pack.firstframe.bindings.comfy.adapter import apply_adapter
from comfyui_firstframe_pack.firstframe.bindings.comfy.build import host_config
from comfyui_firstframe_pack.firstframe.bindings.comfy.first_frame import hold_first_frame
from comfyui_firstframe_pack.firstframe.bindings.comfy.guidance import DualGuider
from comfyui_firstframe_pack.firstframe.bindings.comfy.image_tokens import apply_image_tokens, with_tokens
from comfyui_firstframe_pack.firstframe.bindings.comfy.motion import apply_motion
from comfyui_firstframe_pack.firstframe.bindings.comfy.retention import RetentionControl, apply_retention
from comfyui_firstframe_pack.firstframe.bindings.comfy.weights import HOST, managed
from comfyui_firstframe_pack.firstframe.bindings.comfy.windows import apply_windows
from comfyui_firstframe_pack.firstframe.clips.reference import Reference
from comfyui_firstframe_pack.firstframe.modules.i2v_adapter import I2VAdapter
from comfyui_firstframe_pack.firstframe.modules.image_prompt import ImageTokenAdapter
from comfyui_firstframe_pack.firstframe.modules.motion import MotionConfig, MotionModule
from comfyui_firstframe_pack.firstframe.modules.retention import RetentionBranch, RetentionConfig
from comfyui_firstframe_pack.firstframe.sampling.guidance import DualGuidance, LowPass
from comfyui_firstframe_pack.firstframe.sampling.strength import Curve, StrengthSchedule
from on_cuda import Waits, fake_cuda
from small import FRAMES, MAX_FRAMES, SIDE, SMALL
from torch import Tensor, nn

CUDA = torch.device("cuda", 0)
READS_SIGMA = ["step.py:noise_level"]
"""The one thing that may wait in a step: where strengths or guidance follow the noise schedule."""

pytestmark = [
    pytest.mark.feature("Tensors that claim to be on a GPU: no mixed devices, nothing waits"),
    pytest.mark.skipif(torch.version.cuda is None, reason="this PyTorch is not linked with CUDA"),
]


@pytest.fixture(autouse=True)
def no_memory_manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Without a card nothing can be asked of it: models are where they belong, memory is free, halves are supported."""
    management = comfy.model_management
    monkeypatch.setattr(management, "load_models_gpu", lambda *_, **__: None)
    monkeypatch.setattr(management, "get_free_memory", lambda *_, **__: 1 << 40)
    monkeypatch.setattr(ModelPatcher, "get_free_memory", lambda *_: 1 << 40, raising=False)
    monkeypatch.setattr(management, "should_use_fp16", lambda *_, **__: True)
    monkeypatch.setattr(management, "cuda_device_context", lambda *_: ExitStack(), raising=False)
    for module in (comfy.ldm.modules.attention, weights):  # what the host picks on a GPU
        monkeypatch.setattr(module, "optimized_attention", comfy.ldm.modules.attention.attention_pytorch)
    with fake_cuda():
        yield


def on_cuda(build: Callable[..., nn.Module], *arguments: Any) -> nn.Module:
    """A module in halves that is built where it is used."""
    torch.set_default_dtype(torch.float16)
    try:
        with CUDA:
            return build(*arguments)
    finally:
        torch.set_default_dtype(torch.float32)


def part(build: Callable[..., nn.Module], *arguments: Any) -> ModelPatcher:
    return managed(on_cuda(build, *arguments, HOST).requires_grad_(False).eval(), CUDA)


def base() -> ModelPatcher:
    """The small MODEL."""
    description = host_config(SMALL)
    description.set_inference_dtype(torch.float16, None)
    with CUDA:
        return managed(description.get_model({}, device=CUDA), CUDA)


def motion(**settings: Any) -> ModelPatcher:
    settings = {"mid": True, "max_frames": MAX_FRAMES, "num_heads": 4, **settings}
    return part(MotionModule, MotionConfig(SMALL.block_out_channels, SMALL.layers_per_block, **settings))


def adapter() -> ModelPatcher:
    return part(I2VAdapter, SMALL.attention_sites, SMALL.num_heads)


def moving(model: ModelPatcher, **settings: Any) -> ModelPatcher:
    return apply_motion(model, motion(**settings), 1.0, "keep")


def adapted(model: ModelPatcher, **settings: Any) -> ModelPatcher:
    return hold_first_frame(apply_adapter(moving(model), adapter(), 1.0, **settings), latent())


def latent() -> Tensor:
    """As the host's VAE returns it, on the CPU."""
    return torch.randn(1, 4, SIDE, SIDE)


def reference() -> Reference:
    return Reference(torch.rand(1, 3, 8 * SIDE, 8 * SIDE), latent())


def prompt() -> list[Any]:
    """As the host's text encoder returns it, on the CPU."""
    return [[torch.randn(1, 77, SMALL.cross_attention_dim), {}]]


def retained(prompts: list[Any], start: float = 0.0, **settings: Any) -> list[Any]:
    temporal = MotionConfig(SMALL.block_out_channels, SMALL.layers_per_block, False, MAX_FRAMES, SMALL.num_heads)
    branch = part(RetentionBranch, RetentionConfig(SMALL, temporal, (4, 4, 8, 8)))
    return apply_retention(prompts, branch, reference(), 1.0, start, 1.0, **settings)


def controlled(prompts: list[Any]) -> list[Any]:
    """With a stock ControlNet, with one hint for each frame."""
    settings = {**host_config(SMALL).unet_config, "hint_channels": 3, "dtype": torch.float16}
    settings.pop("out_channels", None)
    network = on_cuda(lambda: comfy.cldm.cldm.ControlNet(**settings, operations=comfy.ops.manual_cast, device=CUDA))
    control = comfy.controlnet.ControlNet(network, load_device=CUDA)
    control.set_cond_hint(torch.rand(FRAMES, 3, 8 * SIDE, 8 * SIDE))
    return [[[text, {**extra, "control": control}] for text, extra in conditioning] for conditioning in prompts]


def with_image_tokens(model: ModelPatcher, prompts: list[Any]) -> tuple[ModelPatcher, list[Any]]:
    """With image tokens."""
    tokens = part(ImageTokenAdapter, SMALL.attention_sites, 32, SMALL.num_heads, 16)
    return apply_image_tokens(model, tokens, 0.8), [with_tokens(one, torch.randn(1, 16, 32)) for one in prompts]


def curve(text: str) -> Curve:
    return Curve.parse(text)


MASK = torch.ones(1, 5, 5)
SAME_IMAGE = LowPass()
PLAIN, DUAL = None, DualGuidance(1.5, 3.0)


@dataclass(frozen=True)
class Case:
    """What is applied to the model and to the prompts, how they are guided, and what may wait in each step."""

    model: Callable[[ModelPatcher], ModelPatcher] = lambda model: model
    prompts: Callable[[list[Any]], list[Any]] = lambda prompts: prompts
    guidance: DualGuidance | None = PLAIN
    low_pass: LowPass = SAME_IMAGE
    frames: int = FRAMES
    waits: list[str] = field(default_factory=list)


IN_SPACE = StrengthSchedule(levels=(1, 0.5), mask=MASK)  # a node makes it, before a step
OVER_TIME = StrengthSchedule(curve("0: 1, 1: 0.5"), curve("0: 1, 2: 0.5"), (1.0, 0.5), MASK)


CASES = {
    "motion v2": Case(moving),
    "motion v1": Case(lambda model: moving(model, mid=False, pooled_unet_norms=True)),
    "motion without positions": Case(lambda model: moving(model, max_frames=None)),
    "adapter": Case(adapted),
    "adapter, fast": Case(lambda model: adapted(model, fast=True)),
    "adapter, dual guidance": Case(adapted, guidance=DUAL),
    "adapter, mask and levels": Case(lambda m: adapted(m, strengths=IN_SPACE)),
    "adapter, strengths over steps": Case(lambda m: adapted(m, strengths=OVER_TIME), waits=READS_SIGMA),
    "adapter, low-pass": Case(lambda model: adapted(model, low_pass=LowPass(0.5, 1.0)), waits=READS_SIGMA),
    "several held frames": Case(
        lambda m: hold_first_frame(apply_adapter(moving(m), adapter(), 1.0), latent(), {-1: latent()}), guidance=DUAL
    ),
    "first frame alone": Case(lambda model: hold_first_frame(moving(model), latent())),
    "dual guidance with intervals": Case(
        adapted, guidance=DualGuidance(1.5, 3.0, (0.0, 0.5), (0.0, 0.9)), waits=READS_SIGMA
    ),
    "dual guidance, refined": Case(adapted, guidance=DualGuidance(1.5, 3.0, parallel=0.5, rescale=0.5)),
    "retention": Case(moving, retained),
    "retention, dual guidance": Case(adapted, retained, DUAL),
    "retention, a part of the schedule": Case(moving, lambda p: retained(p, start=0.001), waits=READS_SIGMA),
    "retention, strengths": Case(moving, lambda p: retained(p, strengths=OVER_TIME), waits=READS_SIGMA),
    "retention behind a ControlNet": Case(moving, lambda prompts: retained(controlled(prompts))),
    "windows": Case(lambda m: apply_windows(adapted(m), MAX_FRAMES, 2), guidance=DUAL, frames=2 * MAX_FRAMES),
    "windows, retention": Case(lambda m: apply_windows(adapted(m), MAX_FRAMES, 2), retained, frames=2 * MAX_FRAMES),
}


class TwoSteps:
    """A sampler of the host that evaluates twice. ``start`` is where the second step begins in the list of waits."""

    def __init__(self, watch: Waits) -> None:
        self.watch, self.start = watch, 0

    def sample(
        self, guider: Any, _sigmas: Tensor, extra_args: dict[str, Any], _callback: Any, noise: Tensor, *_: Any
    ) -> Tensor:
        for _step in range(2):
            self.start = len(self.watch.found)
            denoised: Tensor = guider(noise, torch.full((len(noise),), 5.0, device=CUDA), **extra_args)
        self.end = len(self.watch.found)
        return denoised


def waits_of(case: Case, model: ModelPatcher, prompts: list[Any]) -> list[str]:
    """What waits in the second step of a sampling, as the file and function that does."""
    if case.guidance is None:
        guider = comfy.samplers.CFGGuider(model)
        guider.set_cfg(3.0)
    else:
        guider = DualGuider(model, case.guidance, case.low_pass)
    guider.set_conds(*prompts)
    clip = torch.randn(case.frames, 4, SIDE, SIDE, device=CUDA)
    with Waits() as watch:
        sampler = TwoSteps(watch)
        guider.sample(clip, torch.zeros_like(clip), sampler, torch.tensor([5.0, 1.0]), seed=1)
    return watch.found[sampler.start : sampler.end]


@pytest.mark.parametrize("name", CASES)
def test_nothing_mixes_devices_and_nothing_waits(name: str) -> None:
    case, prompts = CASES[name], [prompt(), prompt()]
    hosts_own = waits_of(Case(frames=case.frames), base(), controlled(prompts) if "ControlNet" in name else prompts)
    found = waits_of(case, case.model(base()), case.prompts(prompts))
    assert [wait for wait in found if wait not in hosts_own] == case.waits


@pytest.mark.parametrize("guidance", [PLAIN, DUAL], ids=["plain", "dual"])
def test_image_tokens(guidance: DualGuidance | None) -> None:
    prompts = [prompt(), prompt()]
    hosts_own = waits_of(Case(), base(), prompts)
    found = waits_of(Case(guidance=guidance), *with_image_tokens(adapted(base()), prompts))
    assert not [wait for wait in found if wait not in hosts_own]


def test_the_branch_computes_in_the_hosts_type(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in fp32 that the host runs in halves."""
    types, merge = set(), RetentionControl.control_merge

    def merged(self: RetentionControl, control: Any, previous: Any, dtype: Any) -> Any:
        out = merge(self, control, previous, dtype)
        types.update(residual.dtype for residual in out["output"])
        return out

    monkeypatch.setattr(RetentionControl, "control_merge", merged)
    waits_of(Case(guidance=DUAL), moving(base()), retained([prompt(), prompt()]))
    assert types == {torch.float16}


def test_a_planted_wait_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(self: I2VAdapter, site: Any, x: Tensor, *_: Any) -> Tensor:
        return x * x.mean().item()

    monkeypatch.setattr(I2VAdapter, "forward", forward)
    found = waits_of(Case(), adapted(base()), [prompt(), prompt()])
    assert found.count("test_nodes_on_cuda.py:forward") == len(SMALL.attention_sites)
