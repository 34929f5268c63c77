"""Guidance with one scale for the image and one for the text, and what keeps high scales from burning in.

Three predictions are told apart: ``uncond`` sees neither image nor text, ``image`` the image alone, ``full`` both.
They may be of eps, v or the clean latents; the refinements are meant for the clean latents (B, C, F, H, W).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional

from ..errors import FirstFrameError, check_finite
from ..shapes import fold_frames, unfold_frames

Branch = Literal["uncond", "image", "full"]
Interval = tuple[float, float]
ALWAYS: Interval = (0.0, 1.0)


@dataclass(frozen=True)
class DualGuidance:
    """How strongly image and text guide.

    Attributes:
        image_scale: s_I, how much more than without the image; 1 is neutral.
        text_scale: s_T, how much more than without the text; 1 is neutral.
        image_interval, text_interval: the part of the schedule, from 0 (all noise) to 1 (none), where each scale
            holds; elsewhere it is 1. Where the image scale is 1, the pass without image and text is not computed;
            where both are, only the full one is (arXiv 2404.07724 for one condition).
        parallel: share of each guidance term that is kept along the full prediction (APG, arXiv 2410.02416, eta);
            1 is plain guidance, 0 takes away what brightens and saturates.
        rescale: share of the result whose standard deviation is brought back to that of the full prediction
            (arXiv 2305.08891, section 3.4, phi); 0 is plain guidance.

    Raises FirstFrameError for values out of their range.
    """

    image_scale: float = 1.0
    text_scale: float = 7.5
    image_interval: Interval = ALWAYS
    text_interval: Interval = ALWAYS
    parallel: float = 1.0
    rescale: float = 0.0

    def __post_init__(self) -> None:
        check_finite("the image scale", self.image_scale)
        check_finite("the text scale", self.text_scale)
        for name, (start, end) in {"image": self.image_interval, "text": self.text_interval}.items():
            if not 0.0 <= start <= end <= 1.0:
                raise FirstFrameError(f"the {name} interval must go from 0 to 1 at most, got {start} to {end}")
        for name, share in {"parallel": self.parallel, "rescale": self.rescale}.items():
            if not 0.0 <= share <= 1.0:
                raise FirstFrameError(f"{name} must be from 0 to 1, got {share}")

    @property
    def is_steady(self) -> bool:
        """Whether the scales are the same at every place of the schedule."""
        return self.image_interval == self.text_interval == ALWAYS

    def at(self, progress: float) -> Scales:
        """The scales at a place of the schedule, from 0 (all noise) to 1 (none)."""
        image = self.image_scale if _within(progress, self.image_interval) else 1.0
        text = self.text_scale if _within(progress, self.text_interval) else 1.0
        return Scales(image, text, self.parallel, self.rescale)


@dataclass(frozen=True)
class Passes:
    """Where in the noise schedule each scale holds, and so how many passes a step takes.

    Where both hold, a step evaluates three predictions; where the text scale alone holds, two; where neither does, one.
    """

    image_interval: Interval
    text_interval: Interval


PASSES = {"full": Passes(ALWAYS, ALWAYS), "economical": Passes((0.0, 0.4), (0.0, 0.8))}
"""Presets by name: *full* takes 1.5 times the passes of plain guidance, *economical* about 1.1 times."""


@dataclass(frozen=True)
class Scales:
    """`DualGuidance` at one step."""

    image: float
    text: float
    parallel: float = 1.0
    rescale: float = 0.0

    @property
    def is_plain(self) -> bool:
        """Whether the result is a weighted sum of the predictions."""
        return self.parallel == 1.0 and self.rescale == 0.0

    @property
    def weights(self) -> dict[Branch, float]:
        """Each prediction's weight in the plain sum; they add up to 1."""
        return {"uncond": 1.0 - self.image, "image": self.image - self.text, "full": self.text}

    @property
    def branches(self) -> tuple[Branch, ...]:
        """The predictions that have to be computed."""
        if self.is_plain:
            return tuple(branch for branch, weight in self.weights.items() if weight != 0.0)
        needed: dict[Branch, bool] = {
            "uncond": self.image != 1.0,
            "image": self.image != 1.0 or self.text != 1.0,
            "full": True,
        }
        return tuple(branch for branch, wanted in needed.items() if wanted)

    def combine(self, predictions: dict[Branch, Tensor]) -> Tensor:
        """``full + (s_I - 1) (image - uncond) + (s_T - 1) (full - image)``, refined.

        That is the usual ``uncond + s_I (image - uncond) + s_T (full - image)``, written so that a scale of 1 leaves
        its term out. Equal scales are plain guidance (arXiv 2207.12598) between ``uncond`` and ``full``.

        Args:
            predictions: those of `branches`, all of one shape, batch first.
        """
        if self.is_plain:
            weighted = [weight * predictions[branch] for branch, weight in self.weights.items() if weight != 0.0]
            return torch.stack(weighted).sum(0) if len(weighted) > 1 else weighted[0]
        full = predictions["full"]
        guided = full
        if self.image != 1.0:
            guided = guided + (self.image - 1.0) * self._term(predictions["image"] - predictions["uncond"], full)
        if self.text != 1.0:
            guided = guided + (self.text - 1.0) * self._term(full - predictions["image"], full)
        return rescaled(guided, full, self.rescale)

    def _term(self, difference: Tensor, full: Tensor) -> Tensor:
        along = along_direction(difference, full)
        return difference - (1.0 - self.parallel) * along


@dataclass(frozen=True)
class LowPass:
    """Adaptive low-pass guidance (arXiv 2506.08456): the early steps see a softened image, and move more.

    Attributes:
        detail: share of the image's width and height that is left in the early steps, see `softened`; 1 is all.
        end: where the early steps end, from 0 (all noise) to 1 (none).

    Raises FirstFrameError for values out of their range.
    """

    detail: float = 1.0
    end: float = 0.2

    def __post_init__(self) -> None:
        if not 0.0 < self.detail <= 1.0:
            raise FirstFrameError(f"the image's early detail must be above 0 and at most 1, got {self.detail}")
        if not 0.0 <= self.end <= 1.0:
            raise FirstFrameError(f"the early steps must end from 0 to 1, got {self.end}")

    @property
    def is_neutral(self) -> bool:
        """Whether the image is the same in all steps."""
        return self.detail == 1.0

    def holds(self, progress: float) -> bool:
        """Whether the softened image is seen at a place of the schedule, from 0 (all noise) to 1 (none)."""
        return not self.is_neutral and progress <= self.end


SAME_IMAGE = LowPass()
"""All steps see the image as it is."""


def softened(latent: Tensor, detail: float) -> Tensor:
    """A latent, (B, C, H, W) or (B, C, F, H, W), made smaller to ``detail`` of its width and height, and back."""
    if latent.ndim == 5:
        return unfold_frames(softened(fold_frames(latent), detail), latent.shape[2])
    height, width = latent.shape[-2:]
    fewer = (max(1, round(detail * height)), max(1, round(detail * width)))
    small = functional.interpolate(latent, fewer, mode="bilinear", antialias=True)
    return functional.interpolate(small, (height, width), mode="bilinear", antialias=True)


def softened_tokens(tokens: Tensor, size: tuple[int, int], detail: float) -> Tensor:
    """`softened` for images as tokens behind each other, (B, R*N, C), each of them of height and width ``size``."""
    if detail == 1.0:
        return tokens
    maps = rearrange(tokens, "b (r h w) c -> b c r h w", h=size[0], w=size[1])
    return rearrange(softened(maps, detail), "b c r h w -> b (r h w) c")


def along_direction(difference: Tensor, direction: Tensor) -> Tensor:
    """The part of ``difference`` that is parallel to ``direction``, for each member of the batch."""
    dims = tuple(range(1, direction.ndim))
    length = torch.linalg.vector_norm(direction, dim=dims, keepdim=True)
    unit = direction / length.clamp_min(torch.finfo(direction.dtype).tiny)
    return (difference * unit).sum(dims, keepdim=True) * unit


def rescaled(guided: Tensor, reference: Tensor, share: float) -> Tensor:
    """``guided``, ``share`` of it with the standard deviation of ``reference``, for each member of the batch."""
    if share == 0.0:
        return guided
    dims = tuple(range(1, reference.ndim))
    ratio = reference.std(dims, keepdim=True) / guided.std(dims, keepdim=True)
    return guided * (share * ratio + (1.0 - share))


def _within(progress: float, interval: Interval) -> bool:
    start, end = interval
    return start <= progress <= end
