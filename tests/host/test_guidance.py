"""Dual guidance in the host."""

from __future__ import annotations

from typing import Any

import comfy.sample
import comfy.samplers
import pytest
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_custom_sampler import Guider_DualCFG
from comfyui_firstframe_pack.firstframe.bindings.comfy.adapter import apply_adapter
from comfyui_firstframe_pack.firstframe.bindings.comfy.first_frame import hold_first_frame
from comfyui_firstframe_pack.firstframe.bindings.comfy.guidance import DualGuider
from comfyui_firstframe_pack.firstframe.bindings.comfy.image_gate import gated
from comfyui_firstframe_pack.firstframe.bindings.comfy.motion import apply_motion
from comfyui_firstframe_pack.firstframe.bindings.comfy.retention import apply_retention
from comfyui_firstframe_pack.firstframe.bindings.diffusers import Parts, Prompts, SamplingSettings, sample
from comfyui_firstframe_pack.firstframe.sampling.guidance import DualGuidance
from comfyui_firstframe_pack.firstframe.shapes import fold_frames
from comfyui_firstframe_pack.nodes.prior import SimilarityPrior
from comfyui_firstframe_pack.nodes.sampler import Sampler
from diffusers import UNet2DConditionModel
from small import (
    FRAMES,
    SMALL,
    conditioning,
    ksample,
    random_unet,
    reference,
    reference_latent,
    relative_error,
    small_adapter,
    small_model,
    small_motion,
    small_retention,
    start_latent,
)
from torch import Tensor

pytestmark = pytest.mark.feature("Dual guidance, ours and the core DualCFGGuider")

STEPS = 3
PARTS = ["adapter", "retention", "both", "neither"]


@pytest.fixture(scope="module")
def base() -> ModelPatcher:
    return apply_motion(small_model(), small_motion(), 1.0, "auto")


def with_parts(base: ModelPatcher, parts: str) -> tuple[ModelPatcher, list[Any]]:
    """A MODEL and both prompts."""
    prompts = [conditioning(1), conditioning(2)]
    if parts in ("retention", "both"):
        prompts = apply_retention(prompts, small_retention(), reference(), 1.0, 0.0, 1.0)
    if parts in ("adapter", "both"):
        base = hold_first_frame(apply_adapter(base, small_adapter(), 1.0), reference_latent())
    return base, prompts


def run(guider: Any, latent: Tensor | None = None, sampler: str = "euler", scheduler: str = "normal") -> Tensor:
    latent = start_latent() if latent is None else latent
    sampling = guider.model_patcher.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, scheduler, STEPS)
    noise = comfy.sample.prepare_noise(latent, 5)
    samples: Tensor = guider.sample(noise, latent, comfy.samplers.sampler_object(sampler), sigmas, seed=5)
    return samples.cpu()


def guided(model: ModelPatcher, prompts: list[Any], latent: Tensor | None = None, **guidance: Any) -> Tensor:
    guider = DualGuider(model, DualGuidance(**guidance))
    guider.set_conds(*prompts)
    return run(guider, latent)


class Rows:
    """A MODEL that counts the images which its UNet is shown."""

    def __init__(self, model: ModelPatcher) -> None:
        self.count = 0
        self.model = model.clone()
        self.model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "test_rows", self.see)

    def see(self, executor: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        self.count += len(x)
        self.calls = getattr(self, "calls", 0) + 1
        return executor(x, *args, **kwargs)


@pytest.mark.parametrize("parts", PARTS)
def test_image_scale_one_is_plain_guidance(base: ModelPatcher, parts: str) -> None:
    model, prompts = with_parts(base, parts)
    found = guided(model, prompts, image_scale=1.0, text_scale=3.0)
    assert torch.equal(found, ksample(model, prompts=prompts, cfg=3.0))


@pytest.mark.parametrize("parts", PARTS)
def test_without_image_and_text_it_is_the_base(base: ModelPatcher, parts: str) -> None:
    """Bit for bit, as long as the frames are: a held frame 0 is handed on as the image."""
    model, prompts = with_parts(base, parts)
    latent = start_latent()
    latent[:1] = reference_latent()
    nothing = conditioning(2)
    found = first_step(model, prompts, latent)
    plain = first_step(base, [nothing, nothing], latent)
    assert torch.equal(found[1:], plain[1:])
    assert torch.equal(found[:1], plain[:1]) == (parts in ("retention", "neither"))


def first_step(model: ModelPatcher, prompts: list[Any], latent: Tensor) -> Tensor:
    """What the branch without image and text makes of noise in one step."""
    guider = DualGuider(model, DualGuidance(image_scale=0.0, text_scale=0.0))
    guider.set_conds(*prompts)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", STEPS)[:2]
    noise = comfy.sample.prepare_noise(latent, 5)
    samples: Tensor = guider.sample(noise, latent, comfy.samplers.sampler_object("euler"), sigmas, seed=5)
    return samples.cpu()


@pytest.mark.parametrize("parts", PARTS)
def test_it_equals_the_hosts_own_guider(base: ModelPatcher, parts: str) -> None:
    model, (positive, negative) = with_parts(base, parts)
    host = Guider_DualCFG(model)
    host.set_conds(gated(positive, True), gated(negative, True), gated(negative, False))
    host.set_cfg(5.0, 2.0)
    assert relative_error(guided(model, [positive, negative], image_scale=2.0, text_scale=5.0), run(host)) < 1e-5


def test_three_branches_are_one_call(base: ModelPatcher) -> None:
    model, prompts = with_parts(base, "both")
    rows = Rows(model)
    guided(rows.model, prompts, image_scale=2.0, text_scale=5.0)
    assert (rows.calls, rows.count) == (STEPS, STEPS * 3 * FRAMES)


@pytest.mark.parametrize(
    ("guidance", "branches"),
    [
        ({"image_scale": 1.0, "text_scale": 5.0}, [2, 2, 2]),
        ({"image_scale": 5.0, "text_scale": 5.0}, [2, 2, 2]),
        ({"image_scale": 1.0, "text_scale": 1.0}, [1, 1, 1]),
        ({"image_scale": 2.0, "text_scale": 5.0, "image_interval": (0.0, 0.4)}, [3, 2, 2]),
        (
            {"image_scale": 2.0, "text_scale": 5.0, "image_interval": (0.0, 0.4), "text_interval": (0.0, 0.6)},
            [3, 2, 1],
        ),
    ],
)
def test_what_is_neutral_is_not_computed(base: ModelPatcher, guidance: dict[str, Any], branches: list[int]) -> None:
    model, prompts = with_parts(base, "both")
    rows = Rows(model)
    guided(rows.model, prompts, **guidance)
    assert rows.count == sum(branches) * FRAMES


def test_strong_guidance_refined_has_less_contrast(base: ModelPatcher) -> None:
    model, prompts = with_parts(base, "both")
    plain = guided(model, prompts, image_scale=8.0, text_scale=8.5)
    for refinement in ({"rescale": 1.0}, {"parallel": 0.0}):
        assert guided(model, prompts, image_scale=8.0, text_scale=8.5, **refinement).std() < plain.std()
    almost = guided(model, prompts, image_scale=8.0, text_scale=8.5, rescale=1e-12)
    assert relative_error(almost, plain) < 1e-4


@pytest.mark.parametrize("refinement", [{}, {"rescale": 0.7, "parallel": 0.3}])
@pytest.mark.parametrize("parts", ["adapter", "retention", "both"])
def test_host_and_diffusers_make_the_same_clip(base: ModelPatcher, parts: str, refinement: dict[str, float]) -> None:
    guidance = DualGuidance(2.0, 4.0, **refinement)
    model, prompts = with_parts(base, parts)
    start = SimilarityPrior.execute(reference(), FRAMES, 1.0, 0.5, 9, 18.0, 5).args[0]["samples"]
    guider = DualGuider(model, guidance)
    guider.set_conds(*prompts)
    hosted = run(guider, start, "ddim", "ddim_uniform")

    unet = UNet2DConditionModel(
        block_out_channels=SMALL.block_out_channels,
        layers_per_block=SMALL.layers_per_block,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        cross_attention_dim=SMALL.cross_attention_dim,
        attention_head_dim=SMALL.num_heads,
    ).eval()
    unet.load_state_dict(random_unet())
    settings = SamplingSettings(FRAMES, STEPS, seed=5, guidance=guidance, hold_first_frame=parts != "retention")
    alone = sample(
        unet,
        Parts(
            small_motion().model,
            None if parts == "retention" else small_adapter().model,
            retention=None if parts == "adapter" else small_retention().model,
        ),
        Prompts(conditioning(1)[0][0], conditioning(2)[0][0]),
        settings,
        reference(),
    )
    assert relative_error(0.18215 * hosted, fold_frames(alone)) < 1e-3


def test_the_sampler_in_one_node_is_the_graph(base: ModelPatcher) -> None:
    model, prompts = with_parts(base, "both")
    neutral = {
        "image_start": 0.0,
        "image_end": 1.0,
        "text_start": 0.0,
        "text_end": 1.0,
        "parallel": 1.0,
        "rescale": 0.0,
    }
    settings = {"sampler_name": "euler", "scheduler": "normal", "start_time": 1.0, "keep_probability": 0.5}
    scales = {"image_scale": 2.0, "text_scale": 5.0}
    made = Sampler.execute(
        model, *prompts, reference(), num_frames=FRAMES, seed=5, steps=STEPS, **settings, **scales, **neutral
    )
    start = SimilarityPrior.execute(reference(), FRAMES, 1.0, 0.5, 9, 18.0, 5).args[0]["samples"]
    assert torch.equal(made.args[0]["samples"].cpu(), guided(model, prompts, start, **scales))
