from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from firstframe.bindings.diffusers import (
    Parts,
    PartScales,
    Prompts,
    SamplingSettings,
    animatediff_scheduler,
    inject,
    sample,
)
from firstframe.bindings.diffusers.sampling import draw_noise, start_from_image
from firstframe.bindings.diffusers.settings import Progress
from firstframe.clips.reference import Reference
from firstframe.errors import FirstFrameError, FramesError, ModelMismatchError
from firstframe.sampling.guidance import LowPass
from firstframe.sampling.prior import mask_generator, prior_mean
from firstframe.sampling.schedule import Schedule
from firstframe.shapes import fold_frames, unfold_frames

SETTINGS = SamplingSettings(num_frames=4, steps=3, cfg=2.0, seed=1)


@pytest.fixture
def reference() -> Tensor:
    return torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def texts() -> tuple[Tensor, Tensor]:
    text, no_text = torch.randn(2, 1, 7, 16, generator=torch.Generator().manual_seed(6))
    return text, no_text


def animate(
    unet: UNet2DConditionModel,
    texts: tuple[Tensor, Tensor],
    latent: Tensor,
    settings: SamplingSettings,
    progress: Progress | None = None,
    **parts: object,
) -> Tensor:
    reference = Reference(torch.zeros(1, 3, 64, 64), latent)
    parts = Parts(**parts)  # type: ignore[arg-type]
    return sample(unet, parts, Prompts(*texts), settings, reference, latent_scale=1.0, progress=progress)


def generate(unet, texts, settings, **parts: object) -> Tensor:
    return sample(unet, Parts(**parts), Prompts(*texts), settings)  # type: ignore[arg-type]


def test_noise_is_the_draw_of_comfyui() -> None:
    frames_as_batch = torch.randn((5, 4, 8, 8), generator=torch.Generator("cpu").manual_seed(42))
    assert torch.equal(fold_frames(draw_noise((4, 8, 8), 5, 42)), frames_as_batch)


@pytest.mark.parametrize("start_time", [1.0, 0.6])
def test_frame_zero_is_the_reference(unet, motion, adapter, reference, texts, start_time: float) -> None:
    settings = replace(SETTINGS, start_time=start_time)
    latents = animate(unet, texts, reference, settings, motion=motion, adapter=adapter)
    assert latents.shape == (1, 4, 4, 8, 8)
    assert torch.equal(latents[:, :, 0], reference)
    free = replace(settings, hold_first_frame=False)
    latents = animate(unet, texts, reference, free, motion=motion, adapter=adapter)
    assert not torch.allclose(latents[:, :, 0], reference, atol=0.1)


def test_same_seed_same_clip(unet, motion, adapter, reference, texts) -> None:
    def clip(seed: int) -> Tensor:
        settings = replace(SETTINGS, seed=seed)
        return animate(unet, texts, reference, settings, motion=motion, adapter=adapter)

    first = clip(1)
    assert torch.equal(clip(1), first)
    assert not torch.allclose(clip(2), first, atol=0.1)


def test_strength_zero_is_no_adapter(unet, motion, adapter, reference, texts) -> None:
    without = animate(unet, texts, reference, SETTINGS, motion=motion)
    zero = animate(unet, texts, reference, SETTINGS, motion=motion, adapter=adapter, scales=PartScales(adapter=0.0))
    full = animate(unet, texts, reference, SETTINGS, motion=motion, adapter=adapter)
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
    ours = animate(unet, texts, reference, settings, motion=motion, adapter=adapter)
    with torch.no_grad(), inject(unet, motion, adapter, num_frames=4):
        theirs = euler(unet, reference, texts, timesteps)
    assert (ours - theirs).norm() / theirs.norm() < 1e-4


def test_starts_from_the_prior(reference) -> None:
    settings = replace(SETTINGS, start_time=0.6, keep_probability=0.3, blur_kernel=5, blur_sigma=2.0)
    alpha_squared = animatediff_scheduler().alphas_cumprod[401]
    frames = prior_mean(reference, 4, 0.3, mask_generator(1), blur_kernel=5, blur_sigma=2.0)
    expected = alpha_squared.sqrt() * frames + (1 - alpha_squared).sqrt() * draw_noise((4, 8, 8), 4, 1)
    schedule = Schedule.ddim(animatediff_scheduler().alphas_cumprod, settings.steps, settings.start_time)
    images = reference.unsqueeze(2).expand(-1, -1, 4, -1, -1)
    torch.testing.assert_close(start_from_image(images, settings, schedule), expected)


def test_progress(unet, motion, reference, texts) -> None:
    calls = []
    settings = replace(SETTINGS, steps=7)
    result = animate(unet, texts, reference, settings, motion=motion, progress=lambda *call: calls.append(call))
    assert [call[:2] for call in calls] == [(done, 8) for done in range(1, 9)]
    assert torch.equal(calls[-1][2], result)


def test_stopping_in_the_middle_leaves_the_unet_clean(unet, motion, adapter, reference, texts) -> None:
    def stop(done: int, total: int, latents: Tensor) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        animate(unet, texts, reference, SETTINGS, motion=motion, adapter=adapter, progress=stop)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in unet.modules())
    inject(unet, motion, num_frames=4).eject()


def test_text_alone(unet, motion, texts) -> None:
    clip = generate(unet, texts, SETTINGS, motion=motion)
    assert clip.shape == (1, 4, 4, 8, 8)
    assert torch.equal(clip, generate(unet, texts, SETTINGS, motion=motion))
    other = generate(unet, texts, replace(SETTINGS, seed=2), motion=motion)
    assert not torch.allclose(clip, other, atol=0.1)


def test_text_matters(unet, motion, texts) -> None:
    guided = generate(unet, texts, SETTINGS, motion=motion)
    assert not torch.allclose(guided, generate(unet, texts[::-1], SETTINGS, motion=motion), atol=0.1)


def test_the_size_of_a_clip_without_a_reference(unet, texts) -> None:
    assert generate(unet, texts, replace(SETTINGS, size=(48, 80))).shape == (1, 4, 4, 6, 10)


def test_the_latent_comes_to_the_unets_scale(unet, motion, reference, texts) -> None:
    unscaled = Reference(torch.zeros(1, 3, 64, 64), reference / 0.18215)
    found = sample(unet, Parts(motion), Prompts(*texts), SETTINGS, unscaled)
    torch.testing.assert_close(found, animate(unet, texts, reference, SETTINGS, motion=motion), rtol=1e-4, atol=1e-4)


def test_several_images_are_held_and_attended_to(unet, adapter, reference, texts) -> None:
    last = -reference
    held = Reference(torch.zeros(1, 3, 64, 64), reference, others={-1: last})
    parts = Parts(adapter=adapter)
    found = sample(unet, parts, Prompts(*texts), SETTINGS, held, latent_scale=1.0)
    assert torch.equal(found[:, :, 0], reference) and torch.equal(found[:, :, -1], last)
    free = replace(SETTINGS, hold_first_frame=False)
    assert not torch.allclose(sample(unet, parts, Prompts(*texts), free, held, latent_scale=1.0)[:, :, -1], last)
    with inject(unet, adapter=adapter, num_frames=4) as injection:
        clip = fold_frames(torch.cat([reference.unsqueeze(2)] * 3 + [last.unsqueeze(2)], dim=2))
        outputs = []
        for frames in ((0,), (0, 3)):
            injection.clean_frames = frames
            with torch.no_grad():
                outputs.append(unet(clip, 401, texts[0]).sample)
    assert not torch.allclose(*outputs, atol=1e-2)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"num_frames": 1}, FramesError),
        ({"steps": 0}, FirstFrameError),
        ({"start_time": 0.0}, FirstFrameError),
        ({"start_time": 1.2}, FirstFrameError),
        ({"keep_probability": -0.1}, FirstFrameError),
        ({"keep_probability": float("nan")}, FirstFrameError),
        ({"cfg": float("nan")}, FirstFrameError),
        ({"cfg": float("inf")}, FirstFrameError),
        ({"seed": -1}, FirstFrameError),
        ({"seed": 2**64}, FirstFrameError),
    ],
)
def test_wrong_settings(wrong, error) -> None:
    with pytest.raises(error, match=str(next(iter(wrong.values())))):
        SamplingSettings(**wrong)


@pytest.mark.parametrize("name", ["motion", "adapter", "image_tokens", "retention"])
def test_scales_that_are_no_numbers(name) -> None:
    with pytest.raises(FirstFrameError, match=f"{name} must be a finite number, got nan"):
        PartScales(**{name: float("nan")})


def test_more_frames_than_positions(unet, motion, reference, texts) -> None:
    with pytest.raises(FramesError, match=r"9 frames.*positions for 8"):
        animate(unet, texts, reference, replace(SETTINGS, num_frames=9), motion=motion)


def test_a_latent_of_another_model(unet, texts) -> None:
    with pytest.raises(ModelMismatchError, match="16 channels, the UNet takes 4"):
        animate(unet, texts, torch.zeros(1, 16, 8, 8), SETTINGS)


def test_the_adapter_attends_to_a_softer_image_in_the_early_steps(unet, texts, reference, adapter) -> None:
    clips = [
        animate(unet, texts, reference, replace(SETTINGS, low_pass=low_pass), adapter=adapter)
        for low_pass in (LowPass(), LowPass(0.25, 0.0), LowPass(0.25, 0.5))
    ]
    assert torch.equal(clips[0], clips[1])  # over before the first step
    assert torch.equal(clips[0][:, :, 0], clips[2][:, :, 0]) and not torch.equal(clips[0], clips[2])
