from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from firstframe.bindings.diffusers import (
    SamplingSettings,
    animate,
    animatediff_scheduler,
    generate,
    inject,
)
from firstframe.bindings.diffusers.sampling import (
    ddim_timesteps,
    draw_noise,
    guided_output,
    start_from_picture,
)
from firstframe.errors import FirstFrameError, FramesError, ModelMismatchError
from firstframe.sampling.prior import mask_generator, prior_mean
from firstframe.shapes import fold_frames, unfold_frames

SETTINGS = SamplingSettings(num_frames=4, steps=3, cfg=2.0, seed=1)


@pytest.fixture
def reference() -> Tensor:
    return torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def texts() -> tuple[Tensor, Tensor]:
    text, no_text = torch.randn(2, 1, 7, 16, generator=torch.Generator().manual_seed(6))
    return text, no_text


# Steps asked for, t0, then what ComfyUI 0.33.0 and 0.3.64 run: first, second and last timestep, their number.
COMFYUI = [
    (20, 1.0, 951, 901, 1, 20),
    (20, 0.6, 571, 541, 1, 20),
    (7, 1.0, 995, 853, 1, 8),
    (7, 0.5, 427, 356, 1, 7),
    (5, 1.0, 801, 601, 1, 5),
    (10, 0.95, 901, 801, 1, 10),
    (25, 0.33, 313, 300, 1, 25),
    (20, 0.01, 20, 19, 1, 20),
    (3, 0.9999, 667, 334, 1, 3),
]


@pytest.mark.parametrize(("steps", "start_time", "first", "second", "last", "count"), COMFYUI)
def test_timesteps_are_those_of_comfyui(steps, start_time, first, second, last, count) -> None:
    timesteps, stride = ddim_timesteps(steps, start_time)
    assert (timesteps[0], timesteps[1], timesteps[-1], len(timesteps)) == (first, second, last, count)
    assert stride == first - second


def test_noise_is_the_draw_of_comfyui() -> None:
    frames_as_batch = torch.randn((5, 4, 8, 8), generator=torch.Generator("cpu").manual_seed(42))
    assert torch.equal(fold_frames(draw_noise((4, 8, 8), 5, 42)), frames_as_batch)


@pytest.mark.parametrize("start_time", [1.0, 0.6])
def test_frame_zero_is_the_reference(unet, motion, adapter, reference, texts, start_time: float) -> None:
    settings = replace(SETTINGS, start_time=start_time)
    latents = animate(unet, *texts, reference, settings, motion=motion, adapter=adapter)
    assert latents.shape == (1, 4, 4, 8, 8)
    assert torch.equal(latents[:, :, 0], reference)
    free = replace(settings, hold_first_frame=False)
    latents = animate(unet, *texts, reference, free, motion=motion, adapter=adapter)
    assert not torch.allclose(latents[:, :, 0], reference, atol=0.1)


def test_same_seed_same_clip(unet, motion, adapter, reference, texts) -> None:
    def clip(seed: int) -> Tensor:
        settings = replace(SETTINGS, seed=seed)
        return animate(unet, *texts, reference, settings, motion=motion, adapter=adapter)

    first = clip(1)
    assert torch.equal(clip(1), first)
    assert not torch.allclose(clip(2), first, atol=0.1)


def test_strength_zero_is_no_adapter(unet, motion, adapter, reference, texts) -> None:
    without = animate(unet, *texts, reference, SETTINGS, motion=motion)
    zero = animate(unet, *texts, reference, SETTINGS, motion=motion, adapter=adapter, adapter_scale=0.0)
    full = animate(unet, *texts, reference, SETTINGS, motion=motion, adapter=adapter)
    assert torch.equal(zero, without)
    assert not torch.allclose(full, without, atol=0.1)


def euler(unet: UNet2DConditionModel, reference: Tensor, texts: tuple[Tensor, Tensor], timesteps: list[int]):
    """k-diffusion's Euler sampler with variance-exploding latents, as ComfyUI runs it, frame 0 held."""
    alphas_cumprod = animatediff_scheduler().alphas_cumprod
    sigmas = [((1 - a) / a).sqrt() for a in alphas_cumprod[timesteps]] + [torch.tensor(0.0)]
    frames = prior_mean(reference, 4, 0.5, mask_generator(1))
    x = frames + sigmas[0] * draw_noise((4, 8, 8), 4, 1)
    for timestep, sigma, next_sigma in zip(timesteps, sigmas, sigmas[1:], strict=False):
        scaled = x / (sigma**2 + 1).sqrt()
        scaled[:, :, 0] = reference
        conditioned, unconditioned = (
            unfold_frames(unet(fold_frames(scaled), timestep, text.repeat(4, 1, 1)).sample, 4) for text in texts
        )
        x = x + (next_sigma - sigma) * (unconditioned + 2.0 * (conditioned - unconditioned))
    x[:, :, 0] = reference
    return x


@pytest.mark.parametrize(
    ("start_time", "timesteps"), [(1.0, [667, 334, 1]), (0.6, [401, 201, 1]), (0.3, [201, 101, 1])]
)
def test_agrees_with_euler(unet, motion, adapter, reference, texts, start_time, timesteps) -> None:
    settings = replace(SETTINGS, start_time=start_time)
    ours = animate(unet, *texts, reference, settings, motion=motion, adapter=adapter)
    with torch.no_grad(), inject(unet, motion, adapter, num_frames=4):
        theirs = euler(unet, reference, texts, timesteps)
    assert (ours - theirs).norm() / theirs.norm() < 1e-4


def test_guidance_is_the_equation(unet, reference, texts) -> None:
    latents = prior_mean(reference, 4, 0.5, mask_generator(1))
    with torch.no_grad(), inject(unet, num_frames=4):
        text, no_text = (guided_output(unet, latents, 401, t, t, cfg=1.0) for t in texts)
        guided = guided_output(unet, latents, 401, *texts, cfg=3.0)
    torch.testing.assert_close(guided, no_text + 3.0 * (text - no_text), rtol=1e-4, atol=1e-5)


def test_starts_from_the_prior(reference) -> None:
    settings = replace(SETTINGS, start_time=0.6, keep_probability=0.3, blur_kernel=5, blur_sigma=2.0)
    alpha_squared = animatediff_scheduler().alphas_cumprod[401]
    frames = prior_mean(reference, 4, 0.3, mask_generator(1), blur_kernel=5, blur_sigma=2.0)
    expected = alpha_squared.sqrt() * frames + (1 - alpha_squared).sqrt() * draw_noise((4, 8, 8), 4, 1)
    torch.testing.assert_close(start_from_picture(reference, settings, animatediff_scheduler()), expected)


def test_progress(unet, motion, reference, texts) -> None:
    calls = []
    settings = replace(SETTINGS, steps=7)
    result = animate(unet, *texts, reference, settings, motion=motion, progress=lambda *call: calls.append(call))
    assert [call[:2] for call in calls] == [(done, 8) for done in range(1, 9)]
    assert torch.equal(calls[-1][2], result)


def test_stopping_in_the_middle_leaves_the_unet_clean(unet, motion, adapter, reference, texts) -> None:
    def stop(done: int, total: int, latents: Tensor) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        animate(unet, *texts, reference, SETTINGS, motion=motion, adapter=adapter, progress=stop)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in unet.modules())
    inject(unet, motion, num_frames=4).eject()


def test_text_alone(unet, motion, texts) -> None:
    clip = generate(unet, *texts, (4, 8, 8), SETTINGS, motion=motion)
    assert clip.shape == (1, 4, 4, 8, 8)
    assert torch.equal(clip, generate(unet, *texts, (4, 8, 8), SETTINGS, motion=motion))
    other = generate(unet, *texts, (4, 8, 8), replace(SETTINGS, seed=2), motion=motion)
    assert not torch.allclose(clip, other, atol=0.1)


def test_text_matters(unet, motion, texts) -> None:
    text, no_text = texts
    guided = generate(unet, text, no_text, (4, 8, 8), SETTINGS, motion=motion)
    assert not torch.allclose(guided, generate(unet, no_text, text, (4, 8, 8), SETTINGS, motion=motion), atol=0.1)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"num_frames": 1}, FramesError),
        ({"steps": 0}, FirstFrameError),
        ({"start_time": 0.0}, FirstFrameError),
        ({"start_time": 1.2}, FirstFrameError),
        ({"keep_probability": -0.1}, FirstFrameError),
    ],
)
def test_wrong_settings(wrong, error) -> None:
    with pytest.raises(error, match=str(next(iter(wrong.values())))):
        SamplingSettings(**wrong)


def test_more_frames_than_positions(unet, motion, reference, texts) -> None:
    with pytest.raises(FramesError, match=r"9 frames.*positions for 8"):
        animate(unet, *texts, reference, replace(SETTINGS, num_frames=9), motion=motion)


def test_a_latent_of_another_model(unet, texts) -> None:
    with pytest.raises(ModelMismatchError, match="16 channels, the UNet takes 4"):
        animate(unet, *texts, torch.zeros(1, 16, 8, 8), SETTINGS)
