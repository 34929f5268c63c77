"""Sampling a clip: from an image, from a prompt, or from both."""

from __future__ import annotations

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor

from ...clips.reference import Reference
from ...errors import ModelMismatchError
from ...sampling.guidance import SAME_IMAGE, DualGuidance, LowPass
from ...sampling.prior import frame_similarity_prior, mask_generator, scaled_blur
from ...sampling.schedule import Schedule
from ...shapes import unfold_frames
from .denoiser import GuidedDenoiser, HeldFrames
from .inject import inject
from .injection import Parts, Retention
from .settings import Progress, Prompts, SamplingSettings, animatediff_scheduler

SD15_LATENT_SCALE = 0.18215


@torch.no_grad()
def sample(
    unet: UNet2DConditionModel,
    parts: Parts,
    prompts: Prompts,
    settings: SamplingSettings,
    reference: Reference | None = None,
    *,
    scheduler: DDIMScheduler | None = None,
    latent_scale: float = SD15_LATENT_SCALE,
    progress: Progress | None = None,
) -> Tensor:
    """Sample a clip with DDIM; the same seed and settings give the same clip.

    With the latent of a reference, sampling starts from the frame similarity prior and the image stands clean in its
    frame (arXiv 2312.16693). With its pixels alone, sampling starts from noise and the image enters through the
    retention branch (arXiv 2312.03018), so that frame 0 resembles it without being equal to it. Without a reference the
    clip follows the prompt alone. The parts are attached for this call only.

    Args:
        unet: with nothing attached.
        parts: the adapter is left out without the reference's latent, the retention branch without a reference.
        prompts: embeddings on the UNet's device; the clip is computed there, in their type.
        settings: without the reference's latent those of prior and held frames have no effect. Without an image that
            conditions anything, ``cfg`` holds in place of ``guidance``.
        reference: the image, and further ones by frame.
        scheduler: the noise schedule and prediction type that the UNet was trained with; the motion module's if None.
        latent_scale: the UNet's latents over the autoencoder's (diffusers' ``vae.config.scaling_factor``); 0.13025 for
            SDXL.
        progress: called after each step.

    Returns:
        Latents (1, C, F, H/8, W/8) at the UNet's scale.

    Raises:
        ModelMismatchError: a part or the latent was made for another UNet.
        FramesError: too many frames for the motion module, or an image in a frame that the clip has not.
        InjectionError: the UNet has parts attached.
        NotFiniteError: a step turns to NaN; names the step and the part.
    """
    scheduler = scheduler or animatediff_scheduler(parts.motion.config.betas if parts.motion else None)
    schedule = Schedule.ddim(
        scheduler.alphas_cumprod, settings.steps, settings.start_time, scheduler.config.prediction_type
    )
    images = _images(unet, reference, settings.num_frames, prompts.text, latent_scale)
    retention = _retention(parts, reference, prompts.text)
    adapter = parts.adapter if images is not None else None
    attached = (parts.motion, adapter, parts.image_tokens, retention)
    guidance = settings.dual_guidance if images is not None or retention else DualGuidance(1.0, settings.cfg)
    with inject(unet, *attached, num_frames=settings.num_frames, scales=parts.scales) as injection:
        if images is None or reference is None:
            latents = _noise(_latent_shape(unet, reference, settings), settings, prompts.text)
            held = HeldFrames.of((), latents, latents)
        else:
            injection.clean_frames = tuple(reference.by_frame(settings.num_frames))
            injection.latent_size = reference.height // 8, reference.width // 8
            latents = start_from_image(images, settings, schedule)
            frames = injection.clean_frames if settings.hold_first_frame else ()
            held = HeldFrames.of(frames, images, schedule.noise_in(latents, images, 0))
        denoiser = GuidedDenoiser(injection, schedule, prompts, held)
        clip = denoise(denoiser, latents, guidance, progress, settings.low_pass)
        denoiser.watch.finish()
        return clip


@torch.no_grad()
def denoise(
    denoiser: GuidedDenoiser,
    latents: Tensor,
    guidance: DualGuidance,
    progress: Progress | None = None,
    low_pass: LowPass = SAME_IMAGE,
) -> Tensor:
    """DDIM from ``latents`` (1, C, F, H, W) at the schedule's first step to a clean clip of the same shape.

    Args:
        denoiser: of a UNet with its parts attached.
        latents: with the noise of the first step; the held frames are filled in.
        guidance: of all steps.
        progress: called after each step.
        low_pass: how soft the image is that the adapter attends to in the early steps.
    """
    schedule, held = denoiser.schedule, denoiser.held
    for step, percent in enumerate(schedule.percents):
        latents = held.shown(latents)
        denoiser.injection.clean_detail = low_pass.detail if low_pass.holds(percent) else 1.0
        denoised = denoiser(latents, step, guidance.at(percent))
        latents = held.shown(schedule.advance(latents, denoised, step))
        if progress is not None:
            progress(step + 1, len(schedule), latents)
    return latents


def start_from_image(images: Tensor, settings: SamplingSettings, schedule: Schedule) -> Tensor:
    """The frame similarity prior of ``images`` (1, C, F, H, W) at the schedule's first step."""
    _, channels, _, height, width = images.shape
    blur = settings.blur_kernel, settings.blur_sigma
    return frame_similarity_prior(
        images,
        _noise((channels, height, width), settings, images),
        schedule.alphas[0],
        schedule.sigmas[0],
        settings.keep_probability,
        mask_generator(settings.seed),
        *(scaled_blur(*blur, height, width) if settings.scale_blur else blur),
    )


def draw_noise(shape: tuple[int, int, int], num_frames: int, seed: int) -> Tensor:
    """Noise (1, C, F, H, W) for a latent ``shape`` (C, H, W): the draw that ComfyUI makes from ``seed``."""
    noise = torch.randn((num_frames, *shape), generator=torch.Generator("cpu").manual_seed(seed))
    return unfold_frames(noise, num_frames)


def _noise(shape: tuple[int, int, int], settings: SamplingSettings, like: Tensor) -> Tensor:
    return draw_noise(shape, settings.num_frames, settings.seed).to(like)


def _images(
    unet: UNet2DConditionModel, reference: Reference | None, num_frames: int, like: Tensor, latent_scale: float
) -> Tensor | None:
    """For each frame the latent of the image nearest to it, at the UNet's scale."""
    if reference is None or reference.latent is None:
        return None
    if reference.latent.shape[1] != unet.config.in_channels:
        raise ModelMismatchError(
            f"the reference's latent has {reference.latent.shape[1]} channels, the UNet takes "
            f"{unet.config.in_channels}: encode the image with the VAE that belongs to the model"
        )
    return latent_scale * reference.nearest(num_frames).to(like)


def _retention(parts: Parts, reference: Reference | None, like: Tensor) -> Retention | None:
    if parts.retention is None or parts.scales.retention == 0.0 or reference is None:
        return None
    return Retention(parts.retention, parts.retention.encode(reference.pixels.to(like)))


def _latent_shape(
    unet: UNet2DConditionModel, reference: Reference | None, settings: SamplingSettings
) -> tuple[int, int, int]:
    """(C, H/8, W/8) of the reference's pixels, else of the settings, else of the UNet's training."""
    channels: int = unet.config.in_channels
    if reference is not None:
        return channels, reference.height // 8, reference.width // 8
    if settings.size is not None:
        return channels, settings.size[0] // 8, settings.size[1] // 8
    return channels, unet.config.sample_size, unet.config.sample_size
