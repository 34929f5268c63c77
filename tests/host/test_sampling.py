"""Ways of sampling that must agree with each other."""

from __future__ import annotations

import comfy.sample
import comfy.samplers
import pytest
import torch
from comfy.model_patcher import ModelPatcher
from comfy.model_sampling import V_PREDICTION, ModelSamplingDiscrete
from comfyui_firstframe_pack.firstframe.bindings.comfy.adapter import apply_adapter
from comfyui_firstframe_pack.firstframe.bindings.comfy.first_frame import hold_first_frame
from comfyui_firstframe_pack.firstframe.bindings.comfy.motion import apply_motion
from small import (
    conditioning,
    ksample,
    reference_latent,
    relative_error,
    small_adapter,
    small_model,
    small_motion,
    start_latent,
)

STEPS = 4


@pytest.fixture(scope="module")
def model() -> ModelPatcher:
    applied = apply_adapter(apply_motion(small_model(), small_motion(), 1.0, "auto"), small_adapter(), 1.0)
    return hold_first_frame(applied, reference_latent())


def test_the_same_seed_makes_the_same_clip(model: ModelPatcher) -> None:
    clip = ksample(model)
    assert torch.equal(ksample(model), clip)
    assert not torch.allclose(ksample(model, seed=6), clip)


def test_two_stages_with_leftover_noise_make_one(model: ModelPatcher) -> None:
    whole = ksample(model, steps=STEPS)
    first = ksample(model, steps=STEPS, last_step=2)
    second = ksample(model, first, steps=STEPS, start_step=2, add_noise=False)
    assert relative_error(first[1:], whole[1:]) > 1e-2
    assert relative_error(second, whole) < 1e-4


def test_custom_sampling_makes_the_same_clip(model: ModelPatcher) -> None:
    latent = start_latent()
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(conditioning(1), conditioning(2))
    guider.set_cfg(3.0)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", STEPS)
    sampler = comfy.samplers.sampler_object("euler")
    custom = guider.sample(comfy.sample.prepare_noise(latent, 5), latent, sampler, sigmas, seed=5)
    assert torch.equal(custom.cpu(), ksample(model, steps=STEPS))


def test_conditionings_one_by_one_make_the_same_clip(model: ModelPatcher, monkeypatch: pytest.MonkeyPatch) -> None:
    together = ksample(model)
    monkeypatch.setattr(comfy.samplers, "can_concat_cond", lambda one, other: one is other)
    assert relative_error(ksample(model), together) < 1e-4


def test_the_first_frame_is_free_where_it_is_not_held() -> None:
    model = apply_adapter(apply_motion(small_model(), small_motion(), 1.0, "auto"), small_adapter(), 1.0)
    assert not torch.allclose(ksample(model)[0], reference_latent()[0], rtol=0.1)


def test_the_schedule_is_animatediffs_and_keeps_the_prediction_type() -> None:
    base = small_model()

    class Velocity(ModelSamplingDiscrete, V_PREDICTION):
        pass

    velocity = base.clone()
    velocity.add_object_patch("model_sampling", Velocity(zsnr=True))
    for model, zsnr in ((base, False), (velocity, True)):
        before = model.get_model_object("model_sampling")
        kept = apply_motion(model, small_motion(), 1.0, "keep").get_model_object("model_sampling")
        auto = apply_motion(model, small_motion(), 1.0, "auto").get_model_object("model_sampling")
        assert kept is before
        assert isinstance(auto, type(before))
        assert auto.zsnr == zsnr
        betas = torch.linspace(0.00085, 0.012, 1000, dtype=torch.float64)
        alphas = (1 - betas).cumprod(0)
        middle = ((1 - alphas) / alphas).sqrt()[500].float()
        assert zsnr or torch.isclose(auto.sigmas[500], middle)


def test_sampling_starts_exactly_where_the_prior_says() -> None:
    model = apply_motion(small_model(), small_motion(), 1.0, "auto")
    sampling = model.get_model_object("model_sampling")
    sigma, noise, latent = sampling.sigma_max, torch.ones(1), torch.full((1,), 3.0)
    assert sampling.noise_scaling(sigma, noise, latent, True).item() == pytest.approx(sigma.item() + 3)
