"""In ComfyUI: a sampling that turns to NaN stops at that step, and names what made it."""

from __future__ import annotations

import comfy.samplers
import pytest
import torch
from comfy.model_patcher import ModelPatcher
from comfyui_firstframe_pack.firstframe.bindings.comfy.adapter import apply_adapter
from comfyui_firstframe_pack.firstframe.bindings.comfy.first_frame import hold_first_frame
from comfyui_firstframe_pack.firstframe.bindings.comfy.guidance import DualGuider
from comfyui_firstframe_pack.firstframe.bindings.comfy.image_tokens import apply_image_tokens, with_tokens
from comfyui_firstframe_pack.firstframe.bindings.comfy.motion import apply_motion
from comfyui_firstframe_pack.firstframe.bindings.comfy.retention import apply_retention
from comfyui_firstframe_pack.firstframe.bindings.comfy.weights import HOST, as_patcher
from comfyui_firstframe_pack.firstframe.errors import FirstFrameError, NotFiniteError
from comfyui_firstframe_pack.firstframe.modules.image_prompt import ImageTokenAdapter
from comfyui_firstframe_pack.firstframe.sampling.guidance import DualGuidance
from small import (
    FRAMES,
    SIDE,
    SMALL,
    conditioning,
    ksample,
    randomise,
    reference,
    reference_latent,
    small_adapter,
    small_controlnet,
    small_model,
    small_motion,
    small_retention,
    start_latent,
)
from torch import Tensor, nn

NAN = float("nan")
STEPS = 5


def small_tokens() -> ModelPatcher:
    return as_patcher(randomise(ImageTokenAdapter(SMALL.attention_sites, 32, SMALL.num_heads, 16, HOST), 4))


class Clip:
    """Everything at once, on small random networks."""

    def __init__(self) -> None:
        self.networks = {
            "the motion module": small_motion(),
            "the I2V adapter": small_adapter(),
            "the content adapter": small_tokens(),
            "the retention branch": small_retention(),
            r"the model \(.*\)": small_model(),
        }

    def sample(self, steps: list[int], **settings: object) -> Tensor:
        motion, adapter, tokens, branch, base = self.networks.values()
        model = apply_image_tokens(apply_adapter(apply_motion(base, motion, 1.0, "keep"), adapter, 1.0), tokens, 1.0)
        prompts = [with_tokens(conditioning(seed), torch.randn(1, 16, 32)) for seed in (1, 2)]
        prompts = apply_retention(prompts, branch, reference(), 1.0, 0.0, 1.0)
        held = hold_first_frame(model, reference_latent())
        callback = lambda step, *_: steps.append(step)  # noqa: E731
        return ksample(held, prompts=prompts, **{"steps": STEPS, "callback": callback, **settings})


def turns_to_nan(network: nn.Module, after: int) -> None:
    """From its call number ``after`` on, counted from 0, the last linear layer of a network computes NaN."""
    *_, layer = (inner for inner in network.modules() if isinstance(inner, nn.Linear))
    calls = iter(range(10**6))
    layer.register_forward_hook(lambda _layer, _inputs, output: output * NAN if next(calls) >= after else None)


@pytest.mark.parametrize("name", Clip().networks)
def test_the_step_and_the_network_are_named(name: str) -> None:
    clip, steps = Clip(), []
    network = clip.networks[name].model
    turns_to_nan(getattr(network, "diffusion_model", network), after=2)
    with pytest.raises(NotFiniteError, match=rf"step 3 of 5 \(sigma .*first to compute one was {name}, in its layer"):
        clip.sample(steps)
    assert steps == [0, 1]


def test_a_sampling_after_it_is_as_ever() -> None:
    clip, again = Clip(), Clip()
    expected = clip.sample([])
    turns_to_nan(clip.networks["the motion module"].model, after=0)
    with pytest.raises(NotFiniteError):
        clip.sample([])
    assert torch.equal(again.sample([]), expected)


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "uni_pc", "heun", "dpm_adaptive", "lcm"])
def test_every_sampler_stops(sampler: str) -> None:
    clip = Clip()
    turns_to_nan(clip.networks["the motion module"].model, after=1)
    with pytest.raises(NotFiniteError, match="was the motion module"):
        clip.sample([], sampler_name=sampler)


def test_a_controlnet_is_named() -> None:
    control = small_controlnet()
    turns_to_nan(control.control_model, after=0)
    control.set_cond_hint(torch.rand(FRAMES, 3, 8 * SIDE, 8 * SIDE))
    prompts = [[[text, {**extra, "control": control}] for text, extra in conditioning(seed)] for seed in (1, 2)]
    with pytest.raises(NotFiniteError, match=r"step 1 of 3 .*was ControlNet"):
        ksample(apply_motion(small_model(), small_motion(), 1.0, "keep"), prompts=prompts)


def test_a_latent_of_nan() -> None:
    model = apply_motion(small_model(), small_motion(), 1.0, "keep")
    with pytest.raises(NotFiniteError, match=r"step 1 of 3 .* began with latents that are not finite"):
        ksample(model, start_latent() * NAN)


@pytest.mark.parametrize("refined", [False, True])
def test_guidance_without_bounds(refined: bool) -> None:
    guider = DualGuider(small_model(), DualGuidance(1e40, 1e40, parallel=0.5 if refined else 1.0))
    guider.set_conds(conditioning(1), conditioning(2))
    sampler = comfy.samplers.sampler_object("euler")
    latent = start_latent()
    with pytest.raises(NotFiniteError, match=r"no network computed such a value: lower the guidance scales"):
        guider.sample(torch.randn_like(latent), latent, sampler, torch.tensor([5.0, 2.0, 0.0]), seed=1)


@pytest.mark.parametrize("number", [NAN, float("inf")])
def test_strengths_that_are_no_numbers(number: float) -> None:
    base, prompts = small_model(), [conditioning(1)]
    for apply in (
        lambda: apply_motion(base, small_motion(), number, "keep"),
        lambda: apply_adapter(base, small_adapter(), number),
        lambda: apply_image_tokens(base, small_tokens(), number),
        lambda: apply_retention(prompts, small_retention(), reference(), number, 0.0, 1.0),
        lambda: apply_retention(prompts, small_retention(), reference(), 1.0, number, 1.0),
    ):
        with pytest.raises(FirstFrameError, match="must be a finite number"):
            apply()
