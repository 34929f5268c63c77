"""The schedule against ComfyUI's timesteps and diffusers' DDIM."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler

from firstframe.errors import ModelMismatchError
from firstframe.sampling.schedule import Schedule, ddim_timesteps

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
    timesteps = ddim_timesteps(steps, start_time)
    assert (timesteps[0], timesteps[1], timesteps[-1], len(timesteps)) == (first, second, last, count)


@pytest.fixture(params=["epsilon", "v_prediction"])
def scheduler(request) -> DDIMScheduler:
    return DDIMScheduler(clip_sample=False, steps_offset=1, prediction_type=request.param)


@pytest.mark.parametrize("start_time", [1.0, 0.5])
def test_a_step_is_that_of_diffusers(scheduler, start_time: float) -> None:
    schedule = Schedule.ddim(scheduler.alphas_cumprod, 5, start_time, scheduler.config.prediction_type)
    scheduler.set_timesteps(1000 // (schedule.timesteps[0] - schedule.timesteps[1]))
    latents, output = torch.randn(2, 1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for step, timestep in enumerate(schedule.timesteps):
        found = schedule.advance(latents, schedule.denoised(latents, output, step), step)
        torch.testing.assert_close(found, scheduler.step(output, timestep, latents).prev_sample, rtol=1e-5, atol=1e-5)


def test_noise_is_added_as_diffusers_does_and_found_again(scheduler) -> None:
    schedule = Schedule.ddim(scheduler.alphas_cumprod, 5)
    clean, noise = torch.randn(2, 1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    noised = schedule.noised(clean, noise, 2)
    torch.testing.assert_close(noised, scheduler.add_noise(clean, noise, torch.tensor(schedule.timesteps[2])))
    torch.testing.assert_close(schedule.noise_in(noised, clean, 2), noise)


def test_how_far_sampling_is() -> None:
    schedule = Schedule.ddim(DDIMScheduler().alphas_cumprod, 3)
    assert schedule.percents == pytest.approx((0.3323, 0.6657, 0.9990), abs=1e-4)
    assert (schedule.alphas[-1], schedule.sigmas[-1], len(schedule)) == (1.0, 0.0, 3)


def test_a_model_that_predicts_something_else() -> None:
    with pytest.raises(ModelMismatchError, match="predicts 'sample'"):
        Schedule.ddim(DDIMScheduler().alphas_cumprod, 3, prediction_type="sample")
