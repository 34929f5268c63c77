"""Dual guidance, low-pass guidance and the prior on the host's own image-to-video models, whose latents are clips."""

from __future__ import annotations

import copy
from typing import Any

import comfy.sample
import comfy.samplers
import pytest
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from comfyui_firstframe_pack.firstframe.bindings.comfy.guidance import DualGuider
from comfyui_firstframe_pack.firstframe.bindings.comfy.image_conditioning import (
    IMAGE_KEYS,
    image_of,
    with_image,
    with_soft_image,
    without_image,
)
from comfyui_firstframe_pack.firstframe.bindings.comfy.step import noise_level
from comfyui_firstframe_pack.firstframe.errors import ImageError, ModelMismatchError
from comfyui_firstframe_pack.firstframe.sampling.guidance import DualGuidance, LowPass
from comfyui_firstframe_pack.nodes.guidance import DualCFGGuider
from comfyui_firstframe_pack.nodes.video_prior import VideoPrior
from small import relative_error
from small_video import CASES, GUIDED, LATENT_FRAMES, Case, hunyuan, hunyuan_inputs
from torch import Tensor

STEPS = 4
WHOLE, ONE_STEP = slice(None), slice(1, 3)
TOLD = [case for case in CASES if "noise_mask" not in case.inputs()[2]]
"""Those whose image is in the conditioning alone."""


class Clip:
    """A case that is ready to run: its model, its prompts and where its latent keeps an image."""

    def __init__(self, case: Case) -> None:
        self.model = case.model()
        self.positive, self.negative, self.latent = case.inputs()
        self.of_image = with_image(self.negative, image_of(self.positive))
        self.bare = without_image(self.negative)
        self.guides = int(case.name == GUIDED)

    @property
    def samples(self) -> Tensor:
        return self.latent["samples"]

    @property
    def mask(self) -> Tensor | None:
        return self.latent.get("noise_mask")

    @property
    def moving(self) -> Tensor:
        """Where the latent holds no image, (B, C, F, H, W) bool."""
        return torch.ones_like(self.samples) > 0 if self.mask is None else self.mask.expand_as(self.samples) > 0

    def run(self, guider: Any, steps: slice = WHOLE, held: bool = True) -> Tensor:
        """Sample the latent; or only the clip in it, with nothing held in it."""
        sampling = self.model.get_model_object("model_sampling")
        sigmas = comfy.samplers.calculate_sigmas(sampling, "simple", STEPS)[steps]
        noise, euler = comfy.sample.prepare_noise(self.samples, 5), comfy.samplers.sampler_object("euler")
        if held:
            return guider.sample(noise, self.samples, euler, sigmas, self.mask, disable_pbar=True, seed=5).cpu()
        frames = self.samples.shape[2] - self.guides
        clip = guider.sample(
            noise[:, :, :frames], self.samples[:, :, :frames], euler, sigmas, disable_pbar=True, seed=5
        )
        return torch.cat([clip.cpu(), self.samples[:, :, frames:]], dim=2)

    def hosted(self, prompts: tuple[Any, Any], cfg: float, steps: slice = WHOLE, held: bool = True) -> Tensor:
        """The host's own guidance."""
        guider = comfy.samplers.CFGGuider(self.model)
        guider.set_conds(*prompts)
        guider.set_cfg(cfg)
        return self.run(guider, steps, held)

    def guided(self, steps: slice = WHOLE, low_pass: LowPass | None = None, **guidance: Any) -> Tensor:
        guider = DualGuider(self.model, DualGuidance(**guidance), low_pass or LowPass())
        guider.set_conds(self.positive, self.negative)
        return self.run(guider, steps)


def rows(feature: str, cases: list[Case] = CASES) -> Any:
    """Each case, and its row in the table of compatibility."""
    mark = pytest.mark.feature
    return pytest.mark.parametrize(
        "clip",
        [pytest.param(case, marks=mark(f"{case.name}, {feature}"), id=case.name) for case in cases],
        indirect=True,
    )


@pytest.fixture
def clip(request: pytest.FixtureRequest) -> Clip:
    return Clip(request.param)


class Calls:
    """What a model is called with."""

    def __init__(self, model: ModelPatcher) -> None:
        self.rows = 0
        self.concatenated: list[Tensor] = []
        self.model = model.clone()
        self.model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "test_calls", self.see)

    def see(self, executor: Any, x: Tensor, t: Tensor, c_concat: Tensor | None, *args: Any, **kwargs: Any) -> Tensor:
        self.rows += len(x)
        self.concatenated += [] if c_concat is None else [c_concat]
        return executor(x, t, c_concat, *args, **kwargs)


@rows("dual guidance")
def test_image_scale_one_is_plain_guidance_and_saves_a_pass(clip: Clip) -> None:
    plain = clip.hosted((clip.positive, clip.of_image), 3.0)
    calls = Calls(clip.model)
    clip.model = calls.model
    assert torch.equal(clip.guided(image_scale=1.0, text_scale=3.0), plain)
    assert calls.rows == 2 * STEPS
    clip.guided(image_scale=2.0, text_scale=3.0)
    assert calls.rows == 2 * STEPS + 3 * STEPS


@rows("dual guidance")
def test_the_null_branch_is_the_model_without_the_image(clip: Clip) -> None:
    """In one step, where the rest of the clip is in the middle of its noise."""
    assert not any(key in extra for _, extra in clip.bare for key in IMAGE_KEYS)
    found = clip.guided(ONE_STEP, image_scale=0.0, text_scale=0.0)
    bare = clip.hosted((clip.bare, clip.bare), 1.0, ONE_STEP, held=False)
    assert relative_error(found[clip.moving], bare[clip.moving]) < 1e-5
    of_image = clip.hosted((clip.of_image, clip.of_image), 1.0, ONE_STEP)
    assert relative_error(of_image[clip.moving], bare[clip.moving]) > 1e-3, "the model looks at the image"


@rows("dual guidance")
@pytest.mark.parametrize(("image_scale", "text_scale"), [(4.0, 4.0), (2.0, 5.0)])
def test_the_three_branches_add_up(clip: Clip, image_scale: float, text_scale: float) -> None:
    """A step of euler is linear in the prediction. Equal scales are plain guidance between none and full."""
    found = clip.guided(ONE_STEP, image_scale=image_scale, text_scale=text_scale)
    none = clip.hosted((clip.bare, clip.bare), 1.0, ONE_STEP, held=False)
    image = clip.hosted((clip.of_image, clip.of_image), 1.0, ONE_STEP)
    full = clip.hosted((clip.positive, clip.positive), 1.0, ONE_STEP)
    expected = none + image_scale * (image - none) + text_scale * (full - image)
    assert relative_error(found[clip.moving], expected[clip.moving]) < 1e-4


@rows("dual guidance", TOLD)
def test_equal_scales_are_plain_guidance(clip: Clip) -> None:
    """In all steps. Where the image is in the latent, the host has no such guidance to compare with."""
    found = clip.guided(image_scale=4.0, text_scale=4.0)
    assert torch.equal(found, clip.hosted((clip.positive, clip.bare), 4.0))


@rows("dual guidance")
@pytest.mark.parametrize("refinement", [{}, {"rescale": 0.7}, {"parallel": 0.0}])
def test_a_clip_comes_out_and_what_came_in_is_as_it_was(clip: Clip, refinement: dict[str, float]) -> None:
    before = copy.deepcopy((clip.positive, clip.negative, clip.latent))
    found = clip.guided(image_scale=3.0, text_scale=6.0, low_pass=LowPass(0.4, 0.5), **refinement)
    assert found.shape == clip.samples.shape and found.ndim == 5 and found.isfinite().all()
    held = ~clip.moving
    assert torch.allclose(found[held], clip.samples[held], atol=1e-4), "the image stays in its frame"
    assert_same(before, (clip.positive, clip.negative, clip.latent))


@rows("dual guidance", CASES[:3])
def test_strong_guidance_refined_is_less(clip: Clip) -> None:
    plain = clip.guided(image_scale=6.0, text_scale=8.0)
    assert relative_error(clip.guided(image_scale=6.0, text_scale=8.0, rescale=1e-12), plain) < 1e-3
    assert clip.guided(image_scale=6.0, text_scale=8.0, rescale=1.0).std() < plain.std()


def assert_same(before: Any, after: Any) -> None:
    if isinstance(before, Tensor):
        assert torch.equal(before, after)
    elif isinstance(before, dict):
        assert before.keys() == after.keys()
        assert_same(list(before.values()), list(after.values()))
    elif isinstance(before, (list, tuple)):
        assert len(before) == len(after)
        for one, other in zip(before, after, strict=True):
            assert_same(one, other)


def test_without_an_image_no_model_takes_it_from_the_latent() -> None:
    """As with the prior: HunyuanVideo reads the latent where the conditioning has no image."""
    clip = Clip(Case("", lambda: hunyuan(33), lambda: hunyuan_inputs("v1 (concat)")))
    clip.latent = {"samples": torch.randn(clip.samples.shape)}
    calls = Calls(clip.model)
    clip.model = calls.model
    clip.guided(image_scale=0.0, text_scale=0.0)
    assert len(calls.concatenated) == STEPS
    assert not any(concatenated.any() for concatenated in calls.concatenated)


@rows("adaptive low-pass guidance")
def test_the_early_steps_see_a_soft_image(clip: Clip) -> None:
    scales = {"image_scale": 1.0, "text_scale": 3.0}
    plain = clip.guided(ONE_STEP, **scales)
    assert torch.equal(clip.guided(ONE_STEP, LowPass(1.0, 1.0), **scales), plain), "all of its detail"
    assert torch.equal(clip.guided(ONE_STEP, LowPass(0.4, 0.1), **scales), plain), "no early step"
    soft = clip.guided(ONE_STEP, LowPass(0.4, 0.5), **scales)
    assert relative_error(soft[clip.moving], plain[clip.moving]) > 1e-5


@rows("adaptive low-pass guidance", TOLD)
def test_it_is_the_host_with_a_soft_image(clip: Clip) -> None:
    prompts = (with_soft_image(clip.positive, 0.4), with_soft_image(clip.of_image, 0.4))
    soft = clip.guided(low_pass=LowPass(0.4, 1.0), image_scale=1.0, text_scale=3.0)
    assert torch.equal(soft, clip.hosted(prompts, 3.0))


@rows("adaptive low-pass guidance")
def test_the_null_branch_is_the_same_in_early_steps(clip: Clip) -> None:
    found = clip.guided(ONE_STEP, LowPass(0.4, 1.0), image_scale=0.0, text_scale=0.0)
    assert torch.equal(found, clip.guided(ONE_STEP, image_scale=0.0, text_scale=0.0))


@rows("frame similarity prior")
def test_the_prior_starts_every_frame_from_the_image(clip: Clip) -> None:
    image = clip.samples[:, :, :1]
    given = None
    if not image.any():
        image = torch.randn(image.shape)
        given = {"samples": image}
    prior, start_time = VideoPrior.execute(clip.latent, 0.6, 0.5, 3, 18.0, 7, given).args
    assert start_time == 0.6
    assert prior.keys() == clip.latent.keys()
    assert prior["samples"].shape == clip.samples.shape
    assert torch.equal(prior["samples"][:, :, :1], image)
    assert torch.equal(prior["samples"][~clip.moving], clip.samples[~clip.moving]), "what the mask holds stays"
    kept = (prior["samples"] == image)[:, :, 1:][clip.moving[:, :, 1:]]
    assert 0.4 < kept.float().mean() < 0.6
    from_noise = clip.guided(slice(2, None), image_scale=2.0, text_scale=3.0)
    clip.latent = prior
    from_prior = clip.guided(slice(2, None), image_scale=2.0, text_scale=3.0)
    assert from_prior.isfinite().all()
    assert not torch.equal(from_prior, from_noise)


def test_a_still_clip_is_taken_frame_by_frame() -> None:
    latent, images = torch.zeros(2, 4, LATENT_FRAMES, 8, 8), torch.randn(1, 4, LATENT_FRAMES, 8, 8)
    prior = VideoPrior.execute({"samples": latent}, 0.6, 1.0, 3, 18.0, 7, {"samples": images}).args[0]["samples"]
    assert torch.equal(prior, images.expand_as(latent))


@pytest.mark.parametrize(
    ("shape", "error", "what"),
    [
        ((1, 8, 1, 8, 8), ModelMismatchError, "8 channels"),
        ((1, 4, 1, 8, 16), ImageError, "16 x 8"),
        (None, ImageError, "empty"),
    ],
)
def test_an_image_that_does_not_fit_is_refused(shape: tuple[int, ...] | None, error: type, what: str) -> None:
    image = None if shape is None else {"samples": torch.randn(shape)}
    with pytest.raises(error, match=what):
        VideoPrior.execute({"samples": torch.zeros(1, 4, 3, 8, 8)}, 0.6, 0.5, 3, 18.0, 7, image)


def test_latents_of_an_image_model_are_refused() -> None:
    video, still = {"samples": torch.zeros(1, 4, 3, 8, 8)}, {"samples": torch.randn(16, 4, 8, 8)}
    for latent, image, name in [(still, None, "latent"), (video, still, "picture")]:
        with pytest.raises(ModelMismatchError, match=rf"{name}: .*\(16, 4, 8, 8\).*Frame Similarity Prior"):
            VideoPrior.execute(latent, 0.6, 0.5, 3, 18.0, 7, image)


@rows("dual guidance")
def test_progress_is_the_hosts_percent(clip: Clip) -> None:
    sampling = clip.model.get_model_object("model_sampling")
    assert noise_level(sampling, torch.tensor([sampling.sigma_max])).percent == pytest.approx(0.0, abs=1e-6)
    for percent in (0.1, 0.5, 0.9):
        sigma = torch.tensor([sampling.percent_to_sigma(percent)])
        assert noise_level(sampling, sigma).percent == pytest.approx(percent, abs=1e-3)


def test_the_node_is_the_guider() -> None:
    clip = Clip(CASES[0])
    intervals = {"image_start": 0.0, "image_end": 1.0, "text_start": 0.0, "text_end": 1.0}
    inputs = {"image_scale": 2.0, "text_scale": 3.0, **intervals, "parallel": 1.0, "rescale": 0.0}
    for early in ({}, {"early_detail": 0.4, "early_end": 0.5}):
        (guider,) = DualCFGGuider.execute(clip.model, clip.positive, clip.negative, **inputs, **early).args
        low_pass = LowPass(0.4, 0.5) if early else None
        assert torch.equal(clip.run(guider), clip.guided(low_pass=low_pass, image_scale=2.0, text_scale=3.0))
