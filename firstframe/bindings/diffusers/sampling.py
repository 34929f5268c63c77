"""Sampling a clip from the latent of its first frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor

from ...errors import FirstFrameError, FramesError, ModelMismatchError
from ...modules.i2v_adapter import I2VAdapter
from ...modules.image_prompt import ImageTokenAdapter
from ...modules.motion import MotionModule
from ...sampling.guidance import DualGuidance
from ...sampling.prior import frame_similarity_prior, mask_generator
from ...shapes import fold_frames, unfold_frames
from .dual import dual_output
from .inject import Injection, Retention, inject

Progress = Callable[[int, int, Tensor], None]
"""Called after each step with the steps done (from 1), the steps in all, and the latents (1, C, F, H, W)."""


@dataclass(frozen=True)
class SamplingSettings:
    """How a clip is sampled.

    ``start_time`` (t0, in (0, 1]) is the share of the noise schedule that is run, always in ``steps`` steps: less is
    steadier and closer to the picture. ``keep_probability`` (p, in [0, 1]) is the share of the picture's latent that
    the frame similarity prior leaves unblurred: less is steadier in the paper, more is with the tiny model.
    ``blur_kernel`` (odd) and ``blur_sigma`` are in latent pixels. ``cfg`` 1 means no guidance; ``guidance``, with a
    scale for the picture and one for the text, takes its place where it is given.
    """

    num_frames: int = 16
    steps: int = 20
    cfg: float = 7.5
    seed: int = 0
    keep_probability: float = 0.5
    start_time: float = 1.0
    blur_kernel: int = 9
    blur_sigma: float = 18.0
    hold_first_frame: bool = True
    guidance: DualGuidance | None = None

    def __post_init__(self) -> None:
        if self.num_frames < 2:
            raise FramesError(f"a clip needs at least two frames, got {self.num_frames}")
        if self.steps < 1:
            raise FirstFrameError(f"at least one step is needed, got {self.steps}")
        if not 0.0 < self.start_time <= 1.0:
            raise FirstFrameError(f"start_time must be above 0 and at most 1, got {self.start_time}")
        if not 0.0 <= self.keep_probability <= 1.0:
            raise FirstFrameError(f"keep_probability must be from 0 to 1, got {self.keep_probability}")


def animatediff_scheduler() -> DDIMScheduler:
    """DDIM on the noise schedule that AnimateDiff's motion modules were trained with."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="linear",
        steps_offset=1,
        timestep_spacing="leading",
        clip_sample=False,
    )


def ddim_timesteps(steps: int, start_time: float, num_train_timesteps: int = 1000) -> tuple[list[int], int]:
    """Timesteps from t0 down to 1, and their stride: those of ComfyUI's "ddim_uniform" scheduler.

    ``start_time`` below 1 cuts the last ``steps`` out of a schedule of ``steps / start_time``, as
    ComfyUI's ``denoise`` does. At 1 there can be one step more than asked for, where the stride leaves
    room: 7 steps are 995, 853, ..., 1.
    """
    total = steps if start_time > 0.9999 else int(steps / start_time)
    stride = max(num_train_timesteps // total, 1)
    timesteps = list(range(1, num_train_timesteps, stride))[::-1]
    return (timesteps if start_time > 0.9999 else timesteps[-steps:]), stride


def draw_noise(shape: tuple[int, ...], num_frames: int, seed: int) -> Tensor:
    """Noise (1, C, F, H, W) for a latent ``shape`` (C, H, W): the draw that ComfyUI makes from ``seed``."""
    noise = torch.randn((num_frames, *shape), generator=torch.Generator("cpu").manual_seed(seed))
    return unfold_frames(noise, num_frames)


def guided_output(
    unet: UNet2DConditionModel, latents: Tensor, timestep: int, text: Tensor, no_text: Tensor, cfg: float
) -> Tensor:
    """The UNet's output for ``latents`` (1, C, F, H, W) under classifier-free guidance (arXiv 2207.12598)."""
    num_frames = latents.shape[2]
    prompts = text if cfg == 1.0 else torch.cat([text, no_text])
    pictures = fold_frames(latents).repeat(len(prompts), 1, 1, 1)
    output = unfold_frames(unet(pictures, timestep, prompts, return_dict=False)[0], num_frames)
    if cfg == 1.0:
        return output
    conditioned, unconditioned = output.chunk(2)
    return unconditioned + cfg * (conditioned - unconditioned)


@torch.no_grad()
def denoise(
    injection: Injection,
    scheduler: DDIMScheduler,
    latents: Tensor,
    text: Tensor,
    no_text: Tensor,
    settings: SamplingSettings,
    first_frame: Tensor | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """DDIM from ``latents`` (1, C, F, H, W) at t0 to a clean clip, on a UNet with its parts attached.

    ``first_frame`` (1, C, H, W) is shown to the UNet un-noised at every step; only the other frames are
    stepped (arXiv 2312.16693, Section 3.2). ``text`` and ``no_text`` are (1, N, D).
    """
    num_train_timesteps = scheduler.config.num_train_timesteps
    timesteps, stride = ddim_timesteps(settings.steps, settings.start_time, num_train_timesteps)
    scheduler = DDIMScheduler.from_config(scheduler.config)
    scheduler.set_timesteps(num_train_timesteps // stride)
    noised = _NoisedFirstFrame(scheduler, latents, first_frame, timesteps[0])
    for done, timestep in enumerate(timesteps, start=1):
        latents = _with_first_frame(latents, first_frame)
        if settings.guidance is None:
            output = guided_output(injection.unet, latents, timestep, text, no_text, settings.cfg)
        else:
            scales = settings.guidance.at(1.0 - timestep / (num_train_timesteps - 1))
            blind = _with_first_frame(latents, noised.at(timestep))
            output = dual_output(injection, scheduler, latents, blind, timestep, text, no_text, scales)
        latents = scheduler.step(output, timestep, latents).prev_sample
        latents = _with_first_frame(latents, first_frame)
        if progress is not None:
            progress(done, len(timesteps), latents)
    return latents


class _NoisedFirstFrame:
    """The held frame as the other frames are: with the noise of the start, less of it at every step."""

    def __init__(self, scheduler: DDIMScheduler, start: Tensor, first_frame: Tensor | None, timestep: int) -> None:
        self.scheduler, self.first_frame = scheduler, first_frame
        if first_frame is not None:
            alpha, sigma = self._scales(timestep)
            self.noise = (start[:, :, 0] - alpha * first_frame) / sigma

    def at(self, timestep: int) -> Tensor | None:
        """(1, C, H, W); None where no frame is held."""
        if self.first_frame is None:
            return None
        alpha, sigma = self._scales(timestep)
        return alpha * self.first_frame + sigma * self.noise

    def _scales(self, timestep: int) -> tuple[float, float]:
        alpha_squared = self.scheduler.alphas_cumprod[timestep].item()
        return alpha_squared**0.5, (1.0 - alpha_squared) ** 0.5


def _with_first_frame(latents: Tensor, first_frame: Tensor | None) -> Tensor:
    if first_frame is None:
        return latents
    return torch.cat([first_frame.unsqueeze(2), latents[:, :, 1:]], dim=2)


def animate(
    unet: UNet2DConditionModel,
    text: Tensor,
    no_text: Tensor,
    reference: Tensor,
    settings: SamplingSettings,
    *,
    motion: MotionModule | None = None,
    adapter: I2VAdapter | None = None,
    image_tokens: ImageTokenAdapter | None = None,
    retention: Retention | None = None,
    motion_scale: float = 1.0,
    adapter_scale: float = 1.0,
    image_token_scale: float = 1.0,
    retention_scale: float = 1.0,
    scheduler: DDIMScheduler | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """A clip that starts with a picture: latents (1, C, F, H, W) whose frame 0 is ``reference``.

    ``reference`` is the picture's latent (1, C, H, W); ``text`` and ``no_text`` are the embeddings
    (1, N, D) of prompt and negative prompt, with the image tokens behind them if there are any. Sampling
    starts from the frame similarity prior. The parts are attached for the call only. The same seed and
    settings give the same clip. ``scheduler`` defaults to :func:`animatediff_scheduler`.
    """
    if reference.shape[1] != unet.config.in_channels:
        raise ModelMismatchError(
            f"the reference latent has {reference.shape[1]} channels, the UNet takes "
            f"{unet.config.in_channels}: encode the picture with the VAE that belongs to the model"
        )
    scheduler = scheduler or animatediff_scheduler()
    latents = start_from_picture(reference, settings, scheduler)
    with inject(
        unet,
        motion,
        adapter,
        image_tokens,
        retention,
        num_frames=settings.num_frames,
        motion_scale=motion_scale,
        adapter_scale=adapter_scale,
        image_token_scale=image_token_scale,
        retention_scale=retention_scale,
    ) as injection:
        first_frame = reference if settings.hold_first_frame else None
        return denoise(injection, scheduler, latents, text, no_text, settings, first_frame, progress)


def start_from_picture(reference: Tensor, settings: SamplingSettings, scheduler: DDIMScheduler) -> Tensor:
    """The frame similarity prior at the first timestep: ``reference`` (1, C, H, W) to (1, C, F, H, W)."""
    timesteps, _ = ddim_timesteps(settings.steps, settings.start_time, scheduler.config.num_train_timesteps)
    alpha_squared = scheduler.alphas_cumprod[timesteps[0]].item()
    return frame_similarity_prior(
        reference,
        settings.num_frames,
        alpha=alpha_squared**0.5,
        sigma=(1.0 - alpha_squared) ** 0.5,
        keep_probability=settings.keep_probability,
        generator=mask_generator(settings.seed),
        noise=draw_noise(reference.shape[1:], settings.num_frames, settings.seed).to(reference),
        blur_kernel=settings.blur_kernel,
        blur_sigma=settings.blur_sigma,
    )


def generate(
    unet: UNet2DConditionModel,
    text: Tensor,
    no_text: Tensor,
    latent_shape: tuple[int, int, int],
    settings: SamplingSettings,
    *,
    motion: MotionModule | None = None,
    retention: Retention | None = None,
    motion_scale: float = 1.0,
    retention_scale: float = 1.0,
    scheduler: DDIMScheduler | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """A clip from noise: latents (1, C, F, H, W) for a ``latent_shape`` of (C, H, W).

    Without ``retention`` it follows the text alone, and dual guidance has no picture to weigh: ``cfg`` holds. With it,
    frame 0 is the branch's own work (DreamVideo, arXiv 2312.03018). The settings of prior and held frame have no
    effect.
    """
    latents = draw_noise(latent_shape, settings.num_frames, settings.seed).to(text)
    settings = settings if retention is not None else replace(settings, guidance=None)
    with inject(
        unet,
        motion,
        retention=retention,
        num_frames=settings.num_frames,
        motion_scale=motion_scale,
        retention_scale=retention_scale,
    ) as injection:
        return denoise(
            injection, scheduler or animatediff_scheduler(), latents, text, no_text, settings, None, progress
        )
