"""All parts on SDXL, small and with random weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import comfy.model_management
import comfy.model_sampling
import comfy.samplers
import pytest
import torch
from comfy.model_patcher import ModelPatcher
from comfyui_firstframe_pack.firstframe.bindings.comfy.adapter import apply_adapter
from comfyui_firstframe_pack.firstframe.bindings.comfy.build import host_config
from comfyui_firstframe_pack.firstframe.bindings.comfy.first_frame import hold_first_frame
from comfyui_firstframe_pack.firstframe.bindings.comfy.guidance import DualGuider
from comfyui_firstframe_pack.firstframe.bindings.comfy.image_tokens import apply_image_tokens, with_tokens
from comfyui_firstframe_pack.firstframe.bindings.comfy.motion import apply_motion
from comfyui_firstframe_pack.firstframe.bindings.comfy.retention import apply_retention
from comfyui_firstframe_pack.firstframe.bindings.comfy.sites import attention_width, transformer_at
from comfyui_firstframe_pack.firstframe.bindings.comfy.windows import apply_windows
from comfyui_firstframe_pack.firstframe.errors import ModelMismatchError
from comfyui_firstframe_pack.firstframe.sampling.guidance import DualGuidance, LowPass
from comfyui_firstframe_pack.firstframe.sampling.strength import Curve, StrengthSchedule
from comfyui_firstframe_pack.firstframe.sites import SD15, SDXL
from comfyui_firstframe_pack.nodes.prior import SimilarityPrior
from diffusers import DDIMScheduler
from small import (
    FRAMES,
    MAX_FRAMES,
    SIDE,
    SMALL,
    conditioning,
    controlled,
    ksample,
    reference,
    reference_latent,
    small_adapter,
    small_controlnet,
    small_motion,
    small_retention,
    start_latent,
)
from small_sdxl import (
    IMAGE_TOKENS,
    SMALL_SDXL,
    prompt,
    prompts,
    small_image_tokens,
    small_sdxl,
)
from torch import Tensor

pytestmark = pytest.mark.feature("SDXL: all modules")

MOTIONS = {
    "AnimateDiff": {"mid": False, "norm_over_frames": True, "betas": "animatediff_sdxl"},
    "Hotshot-XL": {"mid": False, "pooled_unet_norms": True, "betas": "sdxl"},
}
sdxl_motion = partial(small_motion, SMALL_SDXL)
sdxl_adapter = partial(small_adapter, SMALL_SDXL)
sdxl_branch = partial(small_retention, SMALL_SDXL)


def sample(model: ModelPatcher, both: list[Any] | None = None, **settings: Any) -> Tensor:
    return ksample(model, prompts=both or prompts(), **{"steps": 2, **settings})


def image_to_video(model: ModelPatcher, motion: str = "AnimateDiff") -> ModelPatcher:
    moving = apply_motion(model, sdxl_motion(**MOTIONS[motion]), 1.0, "auto")
    return hold_first_frame(apply_adapter(moving, sdxl_adapter(), 1.0), reference_latent())


def retained(both: list[Any], trained: bool = True, strength: float = 1.0) -> list[Any]:
    return apply_retention(both, sdxl_branch(trained=trained), reference(), strength, 0.0, 1.0)


def test_the_table_is_that_of_the_hosts_own_unet() -> None:
    """All transformer blocks of SDXL at its full size, and no other."""
    description = host_config(SDXL)
    description.set_inference_dtype(torch.float32, None)
    unet = description.get_model({}, device=torch.device("meta")).diffusion_model
    blocks = {
        id(block): (block.attn1.to_q.in_features, block.attn1.heads)
        for module in unet.modules()
        for block in getattr(module, "transformer_blocks", ())
    }
    found = {id(transformer_at(unet, site)): (attention_width(unet, site), heads) for site, heads in SDXL.heads.items()}
    assert found == blocks and len(found) == 70
    assert all(attention_width(unet, site) == width for site, width in SDXL.attention_sites.items())
    for site in SD15.attention_sites.keys() - SDXL.attention_sites.keys():
        with pytest.raises(LookupError):
            attention_width(unet, site)


@pytest.mark.parametrize("part", ["adapter", "branch"])
def test_untrained_parts_change_nothing(part: str) -> None:
    base = apply_motion(small_sdxl(), sdxl_motion(**MOTIONS["AnimateDiff"]), 1.0, "auto")
    plain = sample(base)
    if part == "adapter":
        assert torch.equal(sample(apply_adapter(base, sdxl_adapter(trained=False), 1.0)), plain)
        assert torch.equal(sample(apply_adapter(base, sdxl_adapter(), 0.0)), plain)
        assert not torch.allclose(sample(apply_adapter(base, sdxl_adapter(), 1.0)), plain, rtol=1e-2)
    else:
        assert torch.equal(sample(base, retained(prompts(), trained=False)), plain)
        assert torch.equal(sample(base, retained(prompts(), strength=0.0)), plain)
        assert not torch.allclose(sample(base, retained(prompts())), plain, rtol=1e-2)


def test_every_transformer_block_has_its_own_attention() -> None:
    """With one of them taken out at a time the clip is another one each time."""
    base, whole, clips = small_sdxl(), sdxl_adapter(), []
    for site in whole.model:
        adapter = sdxl_adapter()
        adapter.model[site].to_out.weight.data.zero_()
        adapter.model[site].to_out.bias.data.zero_()
        clips.append(sample(apply_adapter(base, adapter, 1.0), steps=1))
    clips.append(sample(apply_adapter(base, whole, 1.0), steps=1))
    assert len(clips) == len(SMALL_SDXL.attention_sites) + 1 == 12
    for number, clip in enumerate(clips):
        assert all(not torch.allclose(clip, other, rtol=1e-4) for other in clips[:number])


@pytest.mark.parametrize(("motion", "end"), [("AnimateDiff", 0.020), ("Hotshot-XL", 0.012)])
def test_auto_sets_the_betas_that_a_motion_module_was_trained_with(motion: str, end: float) -> None:
    trained = DDIMScheduler(beta_start=0.00085, beta_end=end, beta_schedule="scaled_linear").alphas_cumprod
    base = small_sdxl()
    moving = apply_motion(base, sdxl_motion(**MOTIONS[motion]), 1.0, "auto")
    sampling = moving.get_model_object("model_sampling")
    torch.testing.assert_close(sampling.sigmas, ((1 - trained) / trained).sqrt(), rtol=1e-3, atol=0)
    assert isinstance(sampling, comfy.model_sampling.EPS)
    start = sampling.noise_scaling(sampling.sigma_max, torch.ones(1), torch.ones(1), True)
    assert start.item() == pytest.approx(1 + sampling.sigma_max.item()), "latent + sigma noise, whatever t0"
    kept = apply_motion(base, sdxl_motion(**MOTIONS[motion]), 1.0, "keep")
    assert kept.get_model_object("model_sampling") is base.get_model_object("model_sampling")


@pytest.mark.parametrize("motion", MOTIONS)
def test_the_image_stays_in_frame_0(motion: str) -> None:
    clip = sample(image_to_video(small_sdxl(), motion))
    assert clip.isfinite().all()
    assert torch.allclose(clip[0], reference_latent()[0], atol=1e-5)
    assert not torch.allclose(clip[1], clip[2], rtol=0.1)


def test_the_branch_reads_pooled_text_and_sizes() -> None:
    """Of the conditioning itself: the base is the same for all."""
    base, branch = small_sdxl(), sdxl_branch()
    module = branch.model
    seen: list[Tensor] = []
    module.add_embedding.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    one, other = prompts()
    sample(base, apply_retention([one, other], branch, reference(), 1.0, 0.0, 1.0), steps=1)
    (pooled,) = seen
    assert pooled.shape == (2, SMALL_SDXL.pooled_channels)
    texts = {tuple(row[: one[0][1]["pooled_output"].shape[1]].tolist()) for row in pooled}
    assert texts == {tuple(each[0][1]["pooled_output"][0].tolist()) for each in (one, other)}
    sized = [[one[0][0], {**one[0][1], "width": 512}]]
    first = sample(base, apply_retention([one, other], branch, reference(), 1.0, 0.0, 1.0))
    second = sample(base, apply_retention([sized, other], branch, reference(), 1.0, 0.0, 1.0))
    assert not torch.allclose(first, second, rtol=1e-3)


def test_the_prior_starts_a_clip_at_t0() -> None:
    start, denoise = SimilarityPrior.execute(reference(), FRAMES, 0.7, 0.5, 3, 18.0, seed=3).args
    run = partial(sample, image_to_video(small_sdxl()), latent=start["samples"], steps=3)
    part, whole = run(denoise=denoise), run(denoise=1.0)
    assert part.isfinite().all() and not torch.allclose(part, whole, rtol=1e-2)
    distance = [(clip[1:] - reference_latent()).norm() for clip in (part, whole)]
    assert distance[0] < distance[1], "less of the schedule is run, so that less changes"


def dual(model: ModelPatcher, both: list[Any], image: float, text: float) -> Tensor:
    guider = DualGuider(model, DualGuidance(image, text))
    guider.set_conds(*both)
    euler = comfy.samplers.sampler_object("euler")
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", 2)
    noise = comfy.sample.prepare_noise(start_latent(), 5)
    return guider.sample(noise, start_latent(), euler, sigmas, disable_pbar=True, seed=5).cpu()


def test_dual_guidance_with_equal_scales_is_plain_guidance_between_no_image_and_both() -> None:
    base = small_sdxl()
    moving = apply_motion(base, sdxl_motion(**MOTIONS["AnimateDiff"]), 1.0, "auto")
    torch.testing.assert_close(dual(moving, prompts(), 1.0, 3.0), sample(moving), rtol=1e-3, atol=1e-3)
    model, both = image_to_video(base), retained(prompts())
    equal, more = dual(model, both, 3.0, 3.0), dual(model, both, 4.0, 3.0)
    assert torch.allclose(equal[0], reference_latent()[0], atol=1e-5)
    assert equal.isfinite().all() and not torch.allclose(equal, more, rtol=1e-2)


def test_image_tokens_reach_every_text_attention() -> None:
    base, tokens = small_sdxl(), torch.randn(2, 1, IMAGE_TOKENS, 32, generator=torch.Generator().manual_seed(1))
    carrying = [with_tokens(one, each) for one, each in zip(prompts(), tokens, strict=True)]
    plain = sample(base)
    assert torch.equal(sample(apply_image_tokens(base, small_image_tokens(), 0.0), carrying), plain)
    whole = sample(apply_image_tokens(base, small_image_tokens(), 1.0), carrying)
    for site in small_image_tokens().model:
        projections = small_image_tokens()
        projections.model[site].to_v_ip.weight.data.zero_()
        assert not torch.allclose(sample(apply_image_tokens(base, projections, 1.0), carrying), whole, rtol=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {"fast": True},
        {"low_pass": LowPass(detail=0.5, end=1.0)},
        {"strengths": StrengthSchedule(Curve.parse("0: 1, 1: 0.2"), Curve.parse("1: 1, 2: 0"), (1.0, 0.5))},
    ],
    ids=["fast", "low pass", "strengths"],
)
def test_settings_of_the_adapter(settings: dict[str, Any]) -> None:
    base = small_sdxl()
    plain, other = (sample(apply_adapter(base, sdxl_adapter(), 1.0, **each)) for each in ({}, settings))
    assert other.isfinite().all() and not torch.allclose(plain, other, rtol=1e-3)


def test_fast_halves_the_highest_resolution_that_has_attention() -> None:
    """SDXL's first level has none: with the second level's sites silent, fast changes nothing."""
    base = small_sdxl()

    def deep() -> ModelPatcher:
        adapter = sdxl_adapter()
        for site, width in adapter.model.widths.items():
            if width == 64:
                adapter.model[site].to_out.weight.data.zero_()
                adapter.model[site].to_out.bias.data.zero_()
        return adapter

    clips = [sample(apply_adapter(base, deep(), 1.0, fast=fast)) for fast in (False, True)]
    assert torch.equal(*clips)


def test_windows_are_as_long_as_a_motion_module_has_positions() -> None:
    long = 2 * MAX_FRAMES - 1
    model = image_to_video(small_sdxl())
    windowed = apply_windows(model, MAX_FRAMES, 2)
    clip = sample(windowed, retained(prompts()), latent=start_latent(long), steps=1)
    assert len(clip) == long and clip.isfinite().all()
    assert torch.allclose(clip[0], reference_latent()[0], atol=1e-5)


@pytest.mark.feature("SDXL: LoRA and ControlNet before and behind ours")
def test_a_lora_before_and_behind() -> None:
    """Of the base's self-attention, whose keys and values the adapter reads."""
    key = "diffusion_model.input_blocks.5.1.transformer_blocks.1.attn1.to_k.weight"
    base = small_sdxl()
    width = base.model.diffusion_model.input_blocks[5][1].transformer_blocks[1].attn1.to_k.in_features
    patch = {key: (torch.randn(width, width, generator=torch.Generator().manual_seed(1)),)}

    def with_lora(model: ModelPatcher) -> ModelPatcher:
        patched = model.clone()
        assert patched.add_patches(patch, 0.5) == [key]
        return patched

    before, behind = sample(image_to_video(with_lora(base))), sample(with_lora(image_to_video(base)))
    assert torch.equal(before, behind)
    assert not torch.allclose(before, sample(image_to_video(base)), rtol=1e-2)


@pytest.mark.feature("SDXL: LoRA and ControlNet before and behind ours")
def test_a_controlnet_before_and_behind_the_branch() -> None:
    hints = torch.rand(FRAMES, 8 * SIDE, 8 * SIDE, 3, generator=torch.Generator().manual_seed(3))
    model, control = image_to_video(small_sdxl()), small_controlnet(SMALL_SDXL)
    behind = [controlled(one, hints, control) for one in retained(prompts())]
    before = retained([controlled(one, hints, control) for one in prompts()])
    clips = [sample(model, both) for both in (before, behind)]
    torch.testing.assert_close(*clips, rtol=1e-3, atol=1e-3)
    controls = [controlled(one, hints, control) for one in prompts()]
    alone = [sample(model, both) for both in (controls, retained(prompts()))]
    assert all(not torch.allclose(clips[0], one, rtol=1e-2) for one in alone)


APPLY: dict[str, Callable[[ModelPatcher, Any], Any]] = {
    "motion module": lambda model, config: apply_motion(model, small_motion(config), 1.0, "auto"),
    "I2V adapter": lambda model, config: apply_adapter(model, small_adapter(config), 1.0),
    "retention branch": lambda model, config: sample(
        model, apply_retention(prompts(), small_retention(config), reference(), 1.0, 0.0, 1.0), steps=1
    ),
}


@pytest.mark.parametrize("part", APPLY)
def test_parts_for_stable_diffusion_15_are_refused(part: str) -> None:
    with pytest.raises(ModelMismatchError, match=rf"{part}.*SDXL"):
        APPLY[part](small_sdxl(), SMALL)


def test_the_prompt_of_another_model_is_refused() -> None:
    """Without pooled text the host itself has nothing to give to SDXL."""
    with pytest.raises(KeyError, match="pooled_output"):
        sample(small_sdxl(), [conditioning(1), prompt(2)])
