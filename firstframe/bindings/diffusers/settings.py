"""How a clip is sampled, and what it is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from ...errors import FirstFrameError, FramesError, check_finite
from ...modules.motion import BetasName
from ...sampling.guidance import Branch, DualGuidance
from ...sampling.prior import check_knobs
from ...sampling.schedule import betas

Progress = Callable[[int, int, Tensor], None]
"""Called after each step with the steps done (from 1), the steps in all, and the latents (1, C, F, H, W)."""


@dataclass(frozen=True)
class Pooled:
    """What SDXL reads beside the text's embeddings.

    Attributes:
        text, negative: pooled embeddings of prompt and negative prompt, (1, P).
        sizes: (1, 6): height and width of the original image, top and left of the crop, height and width of the
            result, in pixels. All prompts have the same.
    """

    text: Tensor
    negative: Tensor
    sizes: Tensor


@dataclass(frozen=True)
class Prompts:
    """What the UNet is told.

    Attributes:
        text, negative: embeddings (1, N, D) of prompt and negative prompt, with the image tokens behind each if there
            are any.
        pooled: for SDXL.
    """

    text: Tensor
    negative: Tensor
    pooled: Pooled | None = None

    def conditions(self, branches: Sequence[Branch]) -> tuple[Tensor, dict[str, Any]]:
        """Text (B, N, D) and further arguments of the UNet for B branches of guidance: only "full" has the prompt."""
        texts = [self.text if branch == "full" else self.negative for branch in branches]
        if self.pooled is None:
            return torch.cat(texts), {}
        pooled = [self.pooled.text if branch == "full" else self.pooled.negative for branch in branches]
        sizes = self.pooled.sizes.expand(len(branches), -1)
        return torch.cat(texts), {"added_cond_kwargs": {"text_embeds": torch.cat(pooled), "time_ids": sizes}}


@dataclass(frozen=True)
class SamplingSettings:
    """How a clip is sampled.

    Attributes:
        num_frames: frames of the clip, at least 2.
        steps: of DDIM, at least 1.
        cfg: guidance by the text (arXiv 2207.12598), short for ``DualGuidance(1, cfg)``; 1 is none.
        seed: of the noise and the prior's mask, from 0 to 2^64 - 1. The same seed gives the same clip.
        keep_probability: share of the image's latent that the frame similarity prior leaves unblurred, in [0, 1].
        start_time: t0 in (0, 1], the share of the noise schedule that is run, always in ``steps`` steps. Less is
            steadier and closer to the image.
        blur_kernel, blur_sigma: of the prior, in latent pixels; the kernel is odd.
        scale_blur: whether they are those of a latent of 64 pixels, and others get one in proportion.
        hold_first_frame: whether the clean image stands in its frame at every step (arXiv 2312.16693, Section 3.2).
        guidance: a scale for the image and one for the text, in place of ``cfg``.
        size: height and width in pixels of a clip without a reference; those of the UNet's training if None.

    Raises:
        FirstFrameError, FramesError: a value is out of its range.
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
    size: tuple[int, int] | None = None
    scale_blur: bool = False

    def __post_init__(self) -> None:
        if self.num_frames < 2:
            raise FramesError(f"a clip needs at least two frames, got {self.num_frames}")
        if self.steps < 1:
            raise FirstFrameError(f"at least one step is needed, got {self.steps}")
        check_finite("cfg", self.cfg)
        if not 0 <= self.seed < 2**64:
            raise FirstFrameError(f"the seed must be from 0 to 2^64 - 1, got {self.seed}")
        check_knobs(self.start_time, self.keep_probability)

    @property
    def dual_guidance(self) -> DualGuidance:
        """The guidance that holds: plain guidance by the text is dual guidance with an image scale of 1."""
        return self.guidance or DualGuidance(1.0, self.cfg)


def animatediff_scheduler(name: BetasName | None = None, prediction_type: str = "epsilon") -> DDIMScheduler:
    """DDIM on the noise schedule that a motion module was trained with: ``motion.config.betas``."""
    trained = betas(name)
    return DDIMScheduler(
        prediction_type=prediction_type,
        beta_start=trained.start,
        beta_end=trained.end,
        beta_schedule=trained.spacing,
        steps_offset=1,
        timestep_spacing="leading",
        clip_sample=False,
    )
