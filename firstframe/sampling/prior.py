"""The frame similarity prior: where sampling starts, so that all frames resemble the first."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import torch
from einops import repeat
from kornia.filters import gaussian_blur2d
from torch import Tensor

from ..errors import FirstFrameError, ImageError, ModelMismatchError
from ..shapes import fold_frames, unfold_frames

FULL_SIDE = 64
"""Latent pixels of 512 image pixels, for which the published blur is meant."""
_MASK_STREAM = 0x46495253545F4652


@dataclass(frozen=True)
class Knobs:
    """The prior's two knobs.

    Attributes:
        start_time: t0, the share of the noise schedule that is sampled, in (0, 1].
        keep_probability: the share of the image's latent that stays sharp, in [0, 1]; the paper's p is 1 minus it.
    """

    start_time: float
    keep_probability: float

    def __post_init__(self) -> None:
        check_knobs(self.start_time, self.keep_probability)


def check_knobs(start_time: float, keep_probability: float) -> None:
    """Raises FirstFrameError where a knob is out of its range, see :class:`Knobs`."""
    if not 0.0 < start_time <= 1.0:
        raise FirstFrameError(f"start_time must be above 0 and at most 1, got {start_time}")
    if not 0.0 <= keep_probability <= 1.0:
        raise FirstFrameError(f"keep_probability must be from 0 to 1, got {keep_probability}")


MOTION = {"subtle": Knobs(0.7, 1.0), "balanced": Knobs(0.9, 1.0), "lively": Knobs(1.0, 0.9)}
"""From less motion to more, as measured with the tiny model."""


def scaled_blur(blur_kernel: int, blur_sigma: float, height: int, width: int) -> tuple[int, float]:
    """Kernel and sigma of the blur on a latent (height, width), given those on one of FULL_SIDE.

    9 of 64 latent pixels soften a seventh of the image's side; on 16 latent pixels the same kernel takes more than
    half of it and leaves a tenth of the variance, where it left half. So the blur follows the shorter side; the
    kernel is the nearest odd number, and at least 3 where it was.
    """
    share = min(height, width) / FULL_SIDE
    return max(min(blur_kernel, 3), 2 * round((blur_kernel * share - 1) / 2) + 1), blur_sigma * share


def mask_generator(seed: int) -> torch.Generator:
    """A CPU generator for the mask that is independent of the noise drawn with the same ``seed``."""
    return torch.Generator("cpu").manual_seed(seed ^ _MASK_STREAM)


def draw_mask(shape: tuple[int, ...], keep_probability: float, generator: torch.Generator) -> Tensor:
    """M: a boolean mask of ``shape``, each element true (kept) with ``keep_probability`` in [0, 1]."""
    check_knobs(1.0, keep_probability)
    return torch.rand(shape, generator=generator) >= 1.0 - keep_probability


def degrade(frames: Tensor, mask: Tensor, blur_kernel: int = 9, blur_sigma: float = 18.0) -> Tensor:
    """D(x) of the frame similarity prior (arXiv 2312.16693, Section 3.3).

    ``D(x) = M * x + (1 - M) * GaussianBlur(x)`` on ``frames`` (B, C, F, H, W) with a boolean
    ``mask`` of the same shape. The first frame stays as it is. Kernel (odd) and sigma are in latent pixels.
    A FirstFrameError tells that the kernel is even or sigma not above 0, an ImageError that the image is too small.
    """
    if not 0.0 < blur_sigma < inf:
        raise FirstFrameError(f"the blur's sigma must be a finite number above 0, got {blur_sigma}")
    if blur_kernel % 2 == 0:
        raise FirstFrameError(f"the blur kernel must be odd, so that it has a centre; got {blur_kernel}")
    if min(frames.shape[-2:]) <= blur_kernel // 2:
        height, width = frames.shape[-2:]
        raise ImageError(
            f"a latent of {width} x {height} is too small to blur with a kernel of {blur_kernel}: use a larger "
            "image (8 pixels are one latent), or a smaller blur kernel"
        )
    size, sigma = (blur_kernel, blur_kernel), (blur_sigma, blur_sigma)
    blurred = unfold_frames(gaussian_blur2d(fold_frames(frames), size, sigma), frames.shape[2])
    keep = mask.to(frames.device).clone()
    keep[:, :, 0] = True
    return torch.where(keep, frames, blurred)


def prior_mean(
    reference: Tensor,
    num_frames: int,
    keep_probability: float,
    generator: torch.Generator,
    blur_kernel: int = 9,
    blur_sigma: float = 18.0,
) -> Tensor:
    """``num_frames`` low-passed copies of a reference latent: (B, C, H, W) to (B, C, F, H, W).

    A reference for each frame, (B, C, F, H, W), does as well. Frame 0 is the reference itself. The mask is drawn on
    the CPU from ``generator`` (see `mask_generator`), so that a seed gives the same frames on every device.
    """
    frames = reference if reference.ndim == 5 else repeat(reference, "b c h w -> b c f h w", f=num_frames)
    mask = draw_mask(tuple(frames.shape), keep_probability, generator)
    return degrade(frames, mask, blur_kernel, blur_sigma)


def similar_clip(
    clip: Tensor,
    image: Tensor,
    keep_probability: float,
    generator: torch.Generator,
    blur_kernel: int = 9,
    blur_sigma: float = 18.0,
) -> Tensor:
    """`prior_mean` in the form of a video model's ``clip``, (B, C, F, H, W), whose F are latent frames.

    ``image`` (1, C, F', H, W) is a still clip where F' is F; else its first frame, which a video autoencoder makes of
    the first image alone, stands for all of them. Raises ModelMismatchError for another C, ImageError for another
    size, and for an image that is empty.
    """
    if image.shape[1] != clip.shape[1]:
        raise ModelMismatchError(
            f"the image's latent has {image.shape[1]} channels, the video's has {clip.shape[1]}: encode the "
            "image with the video model's own VAE"
        )
    if image.shape[-2:] != clip.shape[-2:]:
        sizes = (f"{latent.shape[-1]} x {latent.shape[-2]}" for latent in (image, clip))
        raise ImageError("the image's latent is {}, the video's is {}: use one size for both".format(*sizes))
    if not image[:, :, 0].any():
        raise ImageError("the image's latent is empty: encode the image with the VAE and give it as `picture`")
    frames = image if image.shape[2] == clip.shape[2] else image[:, :, :1].expand(-1, -1, clip.shape[2], -1, -1)
    similar = prior_mean(frames, clip.shape[2], keep_probability, generator, blur_kernel, blur_sigma)
    return similar.expand_as(clip).clone()


def frame_similarity_prior(
    reference: Tensor,
    noise: Tensor,
    alpha: float,
    sigma: float,
    keep_probability: float,
    generator: torch.Generator,
    blur_kernel: int = 9,
    blur_sigma: float = 18.0,
) -> Tensor:
    """Where sampling starts (arXiv 2312.16693, Equation 7): ``x_t0 ~ N(alpha_t0 D(x), sigma_t0^2 I)``.

    Args:
        reference: the image's latent (B, C, H, W), or one for each frame (B, C, F, H, W).
        noise: standard normal, (B, C, F, H, W).
        alpha, sigma: shares of image and noise at t0.
        keep_probability, generator, blur_kernel, blur_sigma: as in `prior_mean`.

    Returns:
        (B, C, F, H, W).
    """
    frames = prior_mean(reference, noise.shape[2], keep_probability, generator, blur_kernel, blur_sigma)
    return alpha * frames + sigma * noise
