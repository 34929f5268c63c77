"""Other nodes' guidance functions (PAG, SAG, RescaleCFG, APG, CFG-Zero*) in guidance with two scales."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.sample
import comfy.samplers
import pytest
import torch
from comfy.model_patcher import ModelPatcher
from comfy_extras.nodes_apg import APG
from comfy_extras.nodes_cfg import CFGZeroStar, optimized_scale
from comfy_extras.nodes_model_advanced import RescaleCFG
from comfy_extras.nodes_pag import PerturbedAttentionGuidance
from comfy_extras.nodes_sag import SelfAttentionGuidance
from comfyui_firstframe_pack.firstframe.bindings.comfy.adapter import apply_adapter
from comfyui_firstframe_pack.firstframe.bindings.comfy.first_frame import hold_first_frame
from comfyui_firstframe_pack.firstframe.bindings.comfy.guidance import DualGuider
from comfyui_firstframe_pack.firstframe.bindings.comfy.image_gate import gated
from comfyui_firstframe_pack.firstframe.bindings.comfy.motion import apply_motion
from comfyui_firstframe_pack.firstframe.bindings.comfy.retention import apply_retention
from comfyui_firstframe_pack.firstframe.sampling.guidance import DualGuidance
from small import (
    conditioning,
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
UNEQUAL = [(1.5, 4.0), (4.0, 1.5), (0.5, 3.0), (3.0, 1.0)]
Node = Callable[[ModelPatcher], ModelPatcher]
NODES: dict[str, Node] = {
    "PAG": lambda model: PerturbedAttentionGuidance.execute(model, 2.0).args[0],
    "SAG": lambda model: SelfAttentionGuidance.execute(model, 0.8, 2.0).args[0],
    "RescaleCFG": lambda model: RescaleCFG().patch(model, 0.7)[0],
    "APG": lambda model: APG.execute(model, 0.5, 2.0, -0.5).args[0],
    "CFGZeroStar": lambda model: CFGZeroStar.execute(model).args[0],
}


@pytest.fixture(scope="module")
def model() -> ModelPatcher:
    with_motion = apply_motion(small_model(), small_motion(), 1.0, "auto")
    return hold_first_frame(apply_adapter(with_motion, small_adapter(), 1.0), reference_latent())


@pytest.fixture(scope="module")
def prompts() -> list[Any]:
    return apply_retention([conditioning(1), conditioning(2)], small_retention(), reference(), 1.0, 0.0, 1.0)


def dual_guider(model: ModelPatcher, prompts: list[Any], image: float, text: float, **guidance: Any) -> DualGuider:
    guider = DualGuider(model, DualGuidance(image, text, **guidance))
    guider.set_conds(*prompts)
    return guider


def run(guider: Any, steps: int = STEPS) -> Tensor:
    """The first ``steps`` of STEPS."""
    sampling = guider.model_patcher.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "normal", STEPS)[: steps + 1]
    noise = comfy.sample.prepare_noise(start_latent(), 5)
    samples: Tensor = guider.sample(
        noise, start_latent(), comfy.samplers.sampler_object("euler"), sigmas, disable_pbar=True, seed=5
    )
    return samples.cpu()


class Told:
    """A MODEL that notes what its last post-CFG function is told at each step, and what is predicted for it."""

    def __init__(self, model: ModelPatcher) -> None:
        self.steps: list[dict[str, Any]] = []
        self.predicted: list[list[Tensor]] = []
        self.model = model.clone()
        self.model.set_model_sampler_post_cfg_function(lambda args: self.note(args))  # copied without this object

    def note(self, args: dict[str, Any]) -> Tensor:
        conds = [args["cond"], args["uncond"]]
        call = (args["input"], args["sigma"], args["model_options"])
        self.predicted.append(comfy.samplers.calc_cond_batch(args["model"], conds, *call))
        self.steps.append(args)
        return args["denoised"]


def first_step(model: ModelPatcher, prompts: list[Any], image: float, text: float, **guidance: Any) -> dict[str, Any]:
    """What is told after guidance in the first step, with a held frame 0 left out."""
    told = Told(model)
    run(dual_guider(told.model, prompts, image, text, **guidance), steps=1)
    names = ("denoised", "cond_denoised", "uncond_denoised", "input")
    return {**told.steps[0], **{name: told.steps[0][name][1:] for name in names}}


@pytest.mark.parametrize("scales", [*UNEQUAL, (3.0, 3.0), (1.0, 3.0)])
def test_predictions_belong_to_their_conditionings(
    model: ModelPatcher, prompts: list[Any], scales: tuple[float, float]
) -> None:
    told, branches = Told(model), {}
    told.model.set_model_sampler_post_cfg_function(lambda args: branches.update(guider.conds) or args["denoised"])
    guider = dual_guider(told.model, prompts, *scales)
    run(guider)
    weakest = "image" if scales[0] == 1.0 else "uncond"
    assert len(told.steps) == STEPS
    for args, (positive, negative) in zip(told.steps, told.predicted, strict=True):
        assert args["cond"] is branches["full"]
        assert args["uncond"] is branches[weakest]
        assert relative_error(args["cond_denoised"], positive) < 1e-5
        assert relative_error(args["uncond_denoised"], negative) < 1e-5


@pytest.mark.parametrize("scales", UNEQUAL)
@pytest.mark.parametrize("refinement", [{}, {"rescale": 0.7, "parallel": 0.3}])
def test_functions_that_do_nothing_change_nothing(
    model: ModelPatcher, prompts: list[Any], scales: tuple[float, float], refinement: dict[str, float]
) -> None:
    idle = model.clone()
    idle.set_model_sampler_pre_cfg_function(lambda args: args["conds_out"])
    idle.set_model_sampler_cfg_function(
        lambda args: args["uncond"] + args["cond_scale"] * (args["cond"] - args["uncond"])
    )
    expected = run(dual_guider(model, prompts, *scales, **refinement))
    assert relative_error(run(dual_guider(idle, prompts, *scales, **refinement)), expected) < 1e-5


@pytest.mark.parametrize("name", NODES)
def test_equal_scales_are_plain_guidance(model: ModelPatcher, prompts: list[Any], name: str) -> None:
    """By the host's own path where they are equal, and by ours where they differ by next to nothing."""
    host = comfy.samplers.CFGGuider(NODES[name](model))
    host.set_conds(gated(prompts[0], True), gated(prompts[1], False))
    host.set_cfg(3.0)
    expected = run(host)
    for image_scale in (3.0, 3.0 + 1e-6):
        assert relative_error(run(dual_guider(NODES[name](model), prompts, image_scale, 3.0)), expected) < 1e-5


@pytest.mark.parametrize("scales", UNEQUAL)
def test_pag_moves_away_from_the_perturbed_prompt(
    model: ModelPatcher, prompts: list[Any], scales: tuple[float, float]
) -> None:
    without = first_step(model, prompts, *scales)
    perturbed = model.clone()
    perturbed.set_model_attn1_replace(lambda q, k, v, *_: v, "middle", 0)
    away = without["cond_denoised"] - first_step(perturbed, prompts, 1.0, 1.0)["cond_denoised"]
    found = first_step(NODES["PAG"](model), prompts, *scales)["denoised"]
    assert relative_error(found, without["denoised"] + 2.0 * away) < 1e-5


@pytest.mark.parametrize("scales", UNEQUAL)
def test_sag_moves_away_from_the_blurred_negative(
    model: ModelPatcher, prompts: list[Any], scales: tuple[float, float]
) -> None:
    """Unblurred, it is predicted as it was, and nothing changes."""
    without = first_step(model, prompts, *scales)["denoised"]

    def with_sag(scale: float, blur: float) -> Tensor:
        node = SelfAttentionGuidance.execute(model, scale, blur).args[0]
        return first_step(node, prompts, *scales)["denoised"] - without

    assert with_sag(1.0, 0.01).norm() < 1e-4 * without.norm()
    blurred = with_sag(1.0, 2.0)
    assert blurred.norm() > 1e-2 * without.norm()
    assert relative_error(with_sag(2.0, 2.0), 2.0 * blurred) < 1e-4


@pytest.mark.parametrize("scales", UNEQUAL)
def test_rescale_cfg_restores_the_deviation(
    model: ModelPatcher, prompts: list[Any], scales: tuple[float, float]
) -> None:
    def deviations(step: dict[str, Any], denoised: Tensor) -> Tensor:
        """Of each frame's v."""
        sigma = step["sigma"][1:].reshape(-1, 1, 1, 1)
        return (step["input"] / (sigma**2 + 1.0) - denoised).std((1, 2, 3))

    rescaled = first_step(RescaleCFG().patch(model, 1.0)[0], prompts, *scales)
    plain = first_step(model, prompts, *scales)
    aim = deviations(rescaled, rescaled["cond_denoised"])
    assert torch.allclose(deviations(rescaled, rescaled["denoised"]), aim, rtol=1e-4)
    assert not torch.allclose(deviations(plain, plain["denoised"]), aim, rtol=1e-2)


@pytest.mark.parametrize("scales", UNEQUAL)
def test_apg_limits_the_guidance(model: ModelPatcher, prompts: list[Any], scales: tuple[float, float]) -> None:
    """With eta 1: of a threshold's length, and of the direction that it had."""
    threshold = 0.5
    limited = first_step(APG.execute(model, 1.0, threshold, 0.0).args[0], prompts, *scales)
    plain = first_step(model, prompts, *scales)
    scale = plain["cond_scale"]
    assert scale == max(scales, key=lambda value: abs(value - 1.0))
    guidance = (plain["denoised"] - plain["cond_denoised"]) / (scale - 1.0)
    lengths = torch.linalg.vector_norm(guidance, dim=(1, 2, 3), keepdim=True)
    assert (lengths > threshold).all()
    expected = plain["cond_denoised"] + scale * threshold * guidance / lengths
    assert relative_error(limited["denoised"], expected) < 1e-4


@pytest.mark.parametrize("scales", UNEQUAL)
def test_cfg_zero_star_scales_the_negative(
    model: ModelPatcher, prompts: list[Any], scales: tuple[float, float]
) -> None:
    plain = first_step(model, prompts, *scales)
    noise, negative = plain["input"] - plain["cond_denoised"], plain["uncond_denoised"]
    alpha = optimized_scale(noise, plain["input"] - negative)
    expected = plain["denoised"] + (alpha - 1.0) * (1.0 - plain["cond_scale"]) * negative
    found = first_step(NODES["CFGZeroStar"](model), prompts, *scales)["denoised"]
    assert relative_error(found, expected) < 1e-5
    assert not torch.allclose(found, plain["denoised"], rtol=1e-3)


def test_sag_has_its_negative_where_no_scale_holds(model: ModelPatcher, prompts: list[Any]) -> None:
    told = Told(NODES["SAG"](model))
    run(dual_guider(told.model, prompts, 2.0, 4.0, image_interval=(0.0, 0.1), text_interval=(0.0, 0.1)))
    assert len(told.steps) == STEPS
    for args, (_, negative) in zip(told.steps, told.predicted, strict=True):
        assert args["uncond_denoised"].any()
        assert relative_error(args["uncond_denoised"], negative) < 1e-5
