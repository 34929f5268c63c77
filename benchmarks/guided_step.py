"""One guided step of Stable Diffusion 1.5 or SDXL at its full size in ComfyUI, on fake tensors or on a GPU.

Importing this imports the host: ``ledger.py`` and ``step_time.py`` do it in the host's environment.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median
from typing import Any, TypeVar
from unittest.mock import patch

import comfy.ldm.modules.attention
import comfy.model_management
import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher
from counting import FusedAttention, Ledger, Peak, counted
from evolved import with_evolved_motion
from fake_tensors import CUDA, HALF, built_on_card, fake_tensors
from torch import Tensor, nn

from firstframe.bindings.comfy.adapter import apply_adapter
from firstframe.bindings.comfy.build import host_config
from firstframe.bindings.comfy.first_frame import hold_first_frame
from firstframe.bindings.comfy.guidance import DualGuider
from firstframe.bindings.comfy.motion import apply_motion
from firstframe.bindings.comfy.retention import apply_retention
from firstframe.bindings.comfy.weights import HOST
from firstframe.clips.reference import Reference
from firstframe.modules.i2v_adapter import I2VAdapter
from firstframe.modules.motion import MotionConfig, MotionModule
from firstframe.modules.retention import RetentionBranch, RetentionConfig
from firstframe.sampling.guidance import DualGuidance
from firstframe.sites import SD15, SDXL, UNetConfig

MEMORY = 2**40
Sampler = TypeVar("Sampler", bound=comfy.samplers.Sampler)
MOTION = {
    "v1": MotionConfig(SD15.block_out_channels, SD15.layers_per_block, False, 24, pooled_unet_norms=True),
    "v2": MotionConfig(SD15.block_out_channels, SD15.layers_per_block, True, 32),
}

SDXL_MOTION = {
    "AnimateDiff": MotionConfig(
        SDXL.block_out_channels, SDXL.layers_per_block, False, 32, norm_over_frames=True, betas="animatediff_sdxl"
    )
}
SDXL_POOLED = 1280


@contextmanager
def a_card() -> Iterator[None]:
    """In the block the host takes itself for one with an NVIDIA card, where everything is loaded already."""
    management = {
        "get_torch_device": lambda: CUDA,
        "unet_offload_device": lambda: CUDA,
        "unet_dtype": lambda *_, **__: HALF,
        "should_use_fp16": lambda *_, **__: True,
        "get_free_memory": lambda *_, **__: MEMORY,
        "load_models_gpu": lambda models, *_, **__: [model.inject_model() for model in models],
    }
    with ExitStack() as stack:
        stack.enter_context(fake_tensors())
        for name, function in management.items():
            stack.enter_context(patch.object(comfy.model_management, name, function))
        stack.enter_context(patch.object(comfy.ldm.modules.attention, "SDP_BATCH_LIMIT", 2**15))
        yield


def base_model(unet: UNetConfig = SD15) -> ModelPatcher:
    """A full-size UNet as the host's MODEL, in 16 bit."""
    config = host_config(unet)
    config.set_inference_dtype(HALF, None)
    with built_on_card():
        return ModelPatcher(config.get_model({}, device=CUDA), load_device=CUDA, offload_device=CUDA)


def part(module: Callable[[], nn.Module]) -> ModelPatcher:
    """A module of ours as the host has it, in 16 bit."""
    with built_on_card():
        made = module().requires_grad_(False).eval()
    return ModelPatcher(made, load_device=CUDA, offload_device=CUDA)


def motion_module(config: MotionConfig) -> ModelPatcher:
    """A motion module as the host has it."""
    return part(lambda: MotionModule(config, HOST))


@dataclass(frozen=True)
class Clip:
    """The size of what is sampled: pixels of an image's side, and frames."""

    size: int
    frames: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.frames, 4, self.size // 8, self.size // 8

    @property
    def reference(self) -> Reference:
        image = torch.rand(1, 3, self.size, self.size, device=CUDA)
        return Reference(image, torch.randn(1, *self.shape[1:], device=CUDA))


class SecondEvaluation(comfy.samplers.Sampler):
    """A sampler of two steps. The memory of the second is watched: the first makes what the others keep."""

    def sample(
        self, guider: Any, sigmas: Tensor, extra_args: dict[str, Any], callback: Any, noise: Tensor, *_: Any
    ) -> Tensor:
        for _step in range(2):
            with FusedAttention(Ledger()), Peak() as self.peak:
                denoised: Tensor = guider(noise, sigmas[0] * noise.new_ones(len(noise)), **extra_args)
        return denoised


class OneEvaluation(comfy.samplers.Sampler):
    """A sampler whose only step is counted."""

    def __init__(self) -> None:
        self.ledger = Ledger()

    def sample(
        self, guider: Any, sigmas: Tensor, extra_args: dict[str, Any], callback: Any, noise: Tensor, *_: Any
    ) -> Tensor:
        with counted() as self.ledger:
            return guider(noise, sigmas[0] * noise.new_ones(len(noise)), **extra_args)


class ManyEvaluations(comfy.samplers.Sampler):
    """A sampler whose step is evaluated again and again on a real GPU, and timed: the median, and the most memory."""

    def __init__(self, warm_up: int, steps: int) -> None:
        self.warm_up, self.steps = warm_up, steps

    def sample(
        self, guider: Any, sigmas: Tensor, extra_args: dict[str, Any], callback: Any, noise: Tensor, *_: Any
    ) -> Tensor:
        sigma = sigmas[0] * noise.new_ones(len(noise))
        ends = [torch.cuda.Event(enable_timing=True) for _ in range(self.steps + 1)]
        for _step in range(self.warm_up):
            guider(noise, sigma, **extra_args)
        torch.cuda.reset_peak_memory_stats()
        ends[0].record()
        for end in ends[1:]:
            denoised: Tensor = guider(noise, sigma, **extra_args)
            end.record()
        torch.cuda.synchronize()
        self.milliseconds = median(start.elapsed_time(end) for start, end in pairwise(ends))
        self.gigabytes = torch.cuda.max_memory_allocated() / 1e9
        return denoised


def fill(part: ModelPatcher) -> None:
    """Random weights that keep the size of what passes through."""
    for weight in part.model.parameters():
        if weight.ndim > 1:
            weight.data.normal_(0.0, 0.5 / math.sqrt(weight[0].numel()))
        else:
            weight.data.fill_(0.1)


def run_through(guider: comfy.samplers.CFGGuider, clip: Clip, sampler: Sampler) -> Sampler:
    """The sampler, after a sampling of a clip."""
    noise, latent = torch.ones(clip.shape, device=CUDA), torch.zeros(clip.shape, device=CUDA)
    guider.sample(noise, latent, sampler, torch.tensor([5.0, 0.0]), seed=0)
    guider.model_patcher.eject_model()
    return sampler


def guided(model: ModelPatcher, prompts: list[Any]) -> comfy.samplers.CFGGuider:
    """Classifier-free guidance."""
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(*prompts)
    guider.set_cfg(7.5)
    return guider


def dually_guided(model: ModelPatcher, prompts: list[Any]) -> comfy.samplers.CFGGuider:
    """Guidance by image and text, three branches."""
    guider = DualGuider(model, DualGuidance(2.0, 7.5))
    guider.set_conds(*prompts)
    return guider


def prompts(unet: UNetConfig = SD15) -> list[Any]:
    """A positive and a negative CONDITIONING."""
    pooled = {"pooled_output": torch.randn(1, SDXL_POOLED, device=CUDA)} if unet.pooled_channels else {}
    return [[[torch.randn(1, 77, unet.cross_attention_dim, device=CUDA), pooled]] for _ in range(2)]


class Parts:
    """A full-size model and all of our modules for it; use it inside :func:`a_card`.

    ``motion`` are motion modules by version. The adapter and the branch are beside the last of them.
    """

    def __init__(self, clip: Clip, unet: UNetConfig = SD15, motion: Mapping[str, MotionConfig] = MOTION) -> None:
        self.base = base_model(unet)
        self.motion = {version: motion_module(config) for version, config in motion.items()}
        self.version = list(motion)[-1]
        self.adapter = part(lambda: I2VAdapter(unet.attention_sites, unet.heads, HOST))
        config = RetentionConfig(unet, replace(motion[self.version], mid=False))
        self.branch = part(lambda: RetentionBranch(config, HOST))
        self.reference, self.prompts = clip.reference, prompts(unet)

    def moving(self, version: str) -> ModelPatcher:
        return apply_motion(self.base, self.motion[version], 1.0, "auto")

    @property
    def holding(self) -> ModelPatcher:
        return hold_first_frame(self.moving(self.version), self.reference.latent)

    @property
    def image_to_video(self) -> ModelPatcher:
        return apply_adapter(self.holding, self.adapter, 1.0)

    @property
    def fast(self) -> ModelPatcher:
        return apply_adapter(self.holding, self.adapter, 1.0, fast=True)

    @property
    def retained(self) -> list[Any]:
        return apply_retention(self.prompts, self.branch, self.reference, 1.0, 0.0, 1.0)


GUIDERS: dict[str, Callable[[Parts], comfy.samplers.CFGGuider]] = {
    "base": lambda parts: guided(parts.base, parts.prompts),
    "base + adapter": lambda parts: guided(apply_adapter(parts.base, parts.adapter, 1.0), parts.prompts),
    "base, dual guidance": lambda parts: dually_guided(parts.base, parts.prompts),
    "base + adapter, dual guidance": lambda parts: dually_guided(
        apply_adapter(parts.base, parts.adapter, 1.0), parts.prompts
    ),
    "motion v1": lambda parts: guided(parts.moving("v1"), parts.prompts),
    "motion v2": lambda parts: guided(parts.moving("v2"), parts.prompts),
    "AnimateDiff-Evolved v1": lambda parts: guided(with_evolved_motion(parts.base, MOTION["v1"]), parts.prompts),
    "AnimateDiff-Evolved v2": lambda parts: guided(with_evolved_motion(parts.base, MOTION["v2"]), parts.prompts),
    "motion v2 + adapter": lambda parts: guided(parts.image_to_video, parts.prompts),
    "motion v2 + adapter, fast": lambda parts: guided(parts.fast, parts.prompts),
    "motion v2 + adapter + retention": lambda parts: guided(parts.image_to_video, parts.retained),
    "motion v2 + adapter, dual guidance": lambda parts: dually_guided(parts.image_to_video, parts.prompts),
}
"""What a step can be made of, by name."""


SDXL_GUIDERS: dict[str, Callable[[Parts], comfy.samplers.CFGGuider]] = {
    "SDXL": GUIDERS["base"],
    "SDXL, motion": lambda parts: guided(parts.moving("AnimateDiff"), parts.prompts),
    "SDXL, motion + adapter": GUIDERS["motion v2 + adapter"],
    "SDXL, motion + adapter, fast": GUIDERS["motion v2 + adapter, fast"],
    "SDXL, motion + adapter + retention": GUIDERS["motion v2 + adapter + retention"],
    "SDXL, motion + adapter, dual guidance": GUIDERS["motion v2 + adapter, dual guidance"],
}
"""The same for SDXL."""


def count_steps(clip: Clip, ways: Iterable[str]) -> dict[str, Ledger]:
    """A guided step in each of the ways, all of Stable Diffusion 1.5 or all of SDXL."""
    ways = list(ways)
    if ways[0] in SDXL_GUIDERS:
        with a_card():
            sdxl = Parts(clip, SDXL, SDXL_MOTION)
            return {way: run_through(SDXL_GUIDERS[way](sdxl), clip, OneEvaluation()).ledger for way in ways}
    with a_card():
        parts = Parts(clip)
        return {way: run_through(GUIDERS[way](parts), clip, OneEvaluation()).ledger for way in ways}


def peaks(clip: Clip, ways: Iterable[str]) -> dict[str, Any]:
    """The highest memory of a step in each of the ways, and what the host is told, in MiB."""
    with a_card(), patch.object(comfy.model_management, "pytorch_attention_flash_attention", lambda: True):
        parts, mebibyte = Parts(clip), 2**20
        shape, control = (2 * clip.frames, *clip.shape[1:]), parts.retained[0][0][1]["control"]
        found = {way: run_through(GUIDERS[way](parts), clip, SecondEvaluation()).peak.highest for way in ways}
        return {
            "peaks": {way: peak / mebibyte for way, peak in found.items()},
            "estimate": parts.base.model.memory_required(shape) / mebibyte,
            "reported": control.inference_memory_requirements(HALF) / mebibyte,
        }
