"""How strongly the image holds: when, in which frame, at which resolution of the UNet, and where in the image."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import FirstFrameError, check_finite

_POINT = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*:\s*(-?\d+(?:\.\d+)?)\s*")


@dataclass(frozen=True)
class Curve:
    """A value over a position: straight lines between ``points`` (position, value), level outside of them.

    Positions rise; the curve without points is 1 everywhere.
    """

    points: tuple[tuple[float, float], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Curve:
        """From a text such as ``"0: 1, 0.5: 0.2"``; empty is 1 everywhere. FirstFrameError where it is none."""
        points = []
        for part in text.split(",") if text.strip() else ():
            match = _POINT.fullmatch(part)
            if match is None:
                raise FirstFrameError(f"{part.strip()!r} is not a point of a curve: write 'position: value, ...'")
            position, value = float(match[1]), float(match[2])
            check_finite(f"the point {part.strip()[:40]!r} of a curve", position + value)
            points.append((position, value))
        positions = [position for position, _ in points]
        if positions != sorted(set(positions)):
            raise FirstFrameError(f"the positions of a curve must rise from point to point; got {positions}")
        return cls(tuple(points))

    def at(self, position: float) -> float:
        """The value at a position."""
        if not self.points:
            return 1.0
        before = [point for point in self.points if point[0] <= position]
        after = [point for point in self.points if point[0] > position]
        if not before or not after:
            return before[-1][1] if before else after[0][1]
        (left, low), (right, high) = before[-1], after[0]
        return low + (high - low) * (position - left) / (right - left)


@dataclass(frozen=True)
class StrengthSchedule:
    """Factors on a strength, multiplied with each other.

    Attributes:
        over_steps: over how far sampling is, from 0 (all noise) to 1 (none).
        over_frames: over the number of the frame, from 0.
        levels: by resolution of the UNet, from that of the latent inwards, each half of the one before; those that
            are not named are 1.
        mask: where the image holds, (H, W), (1, H, W) or one for each frame of the clip (F, H, W), in [0, 1]; of any
            size. Kept as (F, H, W).

    Raises:
        FirstFrameError: a mask of another shape, a level or a value of the mask that is not finite.
    """

    over_steps: Curve = Curve()
    over_frames: Curve = Curve()
    levels: tuple[float, ...] = ()
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        for level, strength in enumerate(self.levels):
            check_finite(f"the strength at level {level}", strength)
        if self.mask is None:
            return
        if self.mask.ndim not in (2, 3) or self.mask.numel() == 0:
            raise FirstFrameError(f"a mask is (H, W) or (F, H, W), got shape {tuple(self.mask.shape)}")
        if not self.mask.isfinite().all():
            raise FirstFrameError("the mask has NaN or infinite values: check where it comes from")
        object.__setattr__(self, "mask", self.mask.reshape(-1, *self.mask.shape[-2:]))

    @property
    def is_steady(self) -> bool:
        """Whether the factors are the same in all steps."""
        return not self.over_steps.points

    def weights(self, percent: float, frames: Sequence[int], latent: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """The factors for a feature map at one step, (F, 1, h, w).

        Args:
            percent: how far sampling is, in [0, 1].
            frames, latent, size: as in `over_space`.
        """
        return self.over_steps.at(percent) * self.over_space(frames, latent, size)

    def over_space(self, frames: Sequence[int], latent: tuple[int, int], size: tuple[int, int]) -> Tensor:
        """The factors for a feature map that are the same in all steps, (F, 1, h, w).

        Args:
            frames: the numbers of its frames in the clip.
            latent: height and width of the latent.
            size: height and width of the feature map (h, w).
        """
        level = level_of(latent, size)
        of_level = self.levels[level] if level < len(self.levels) else 1.0
        of_frames = torch.tensor([self.over_frames.at(frame) for frame in frames])[:, None, None, None]
        return of_level * of_frames * self._mask(frames, size)

    def _mask(self, frames: Sequence[int], size: tuple[int, int]) -> Tensor:
        if self.mask is None:
            return torch.ones(1, 1, *size)
        rows = [min(frame, len(self.mask) - 1) for frame in frames]
        return functional.interpolate(self.mask[rows, None].float(), size, mode="area")


def level_of(latent: tuple[int, int], size: tuple[int, int]) -> int:
    """How often a feature map of ``size`` (h, w) was halved from the latent's (H, W), each time rounded up."""
    level = 0
    while latent != size and max(latent) > 1:
        latent = (-(-latent[0] // 2), -(-latent[1] // 2))
        level += 1
    return level


def size_of(latent: tuple[int, int], num_places: int) -> tuple[int, int]:
    """Height and width of the feature map of a UNet that has ``num_places``, for a latent of (H, W)."""
    height, width = latent
    while height * width > num_places:
        height, width = -(-height // 2), -(-width // 2)
    if height * width != num_places:
        raise FirstFrameError(f"a latent of {latent[1]} x {latent[0]} has no feature map of {num_places} places")
    return height, width
