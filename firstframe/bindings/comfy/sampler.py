"""Sampling a clip in the host: prior, guider, noise schedule and sampler in one."""

from __future__ import annotations

import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...clips.reference import Reference
from ...sampling.prior import Knobs, mask_generator, prior_mean
from ...shapes import fold_frames
from .guidance import DualGuider

NEARLY_ALL = 0.9999
"""A share of the noise schedule above this is all of it, as the host's KSampler counts ``denoise``."""


def sample_clip(
    guider: DualGuider,
    reference: Reference,
    num_frames: int,
    seed: int,
    steps: int,
    knobs: Knobs,
    sampler_name: str,
    scheduler: str,
) -> Tensor:
    """A clip that starts from the frame similarity prior (arXiv 2312.16693, section 3.3).

    Args:
        guider: with its conditionings set.
        num_frames: F, at least 2.
        seed: of the noise and of the prior's mask.
        steps: of the part of the noise schedule that is run.
        sampler_name, scheduler: names of the host's.

    Returns:
        Latents (F, C, H, W) on the host's intermediate device.
    """
    mask = mask_generator(seed)
    start = fold_frames(prior_mean(reference.nearest(num_frames), num_frames, knobs.keep_probability, mask))
    sigmas = sigmas_from(guider.model_patcher, scheduler, steps, knobs.start_time)
    samples = guider.sample(
        comfy.sample.prepare_noise(start, seed),
        start,
        comfy.samplers.sampler_object(sampler_name),
        sigmas,
        callback=latent_preview.prepare_callback(guider.model_patcher, len(sigmas) - 1),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=seed,
    )
    on_host: Tensor = samples.to(comfy.model_management.intermediate_device())
    return on_host


def sigmas_from(model: ModelPatcher, scheduler: str, steps: int, start_time: float) -> Tensor:
    """Noise levels from t0, in (0, 1], to the end: the last ``steps`` of a schedule of ``steps / t0``."""
    sampling = model.get_model_object("model_sampling")
    if start_time > NEARLY_ALL:
        return comfy.samplers.calculate_sigmas(sampling, scheduler, steps)
    sigmas: Tensor = comfy.samplers.calculate_sigmas(sampling, scheduler, int(steps / start_time))
    return sigmas[-(steps + 1) :]
