"""Numbers of one clip frame by frame, compared with the image that it starts from."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from ...errors import FramesError, still_wanted
from .brightness import brightness_drift, contrast_drift
from .image import ssim
from .plot import Panel, lines
from .temporal import flow_score, warping_error
from .terms import NUMBERS, plain

Numbers = dict[str, list[float]]


def frame_numbers(frames: Tensor, image: Tensor) -> Numbers:
    """Measure every frame of a clip.

    Args:
        frames: (F, H, W, 3), F >= 2; uint8 or floats in [0, 1].
        image: (H, W, 3), as the frames.

    Returns:
        picture_ssim, brightness_drift, contrast_drift: F numbers, each frame against the image. flow_score,
        warping_error: F - 1 numbers, each frame and its next one. contrast_drift is not finite for an image of one
        colour, which has no contrast to compare with.

    Raises:
        FramesError: for a single frame.
    """
    if len(frames) < 2:
        raise FramesError(f"a clip to measure needs at least two frames, got {len(frames)}")
    singles = [frames[f : f + 1] for f in range(len(frames))]
    pairs = [frames[f : f + 2] for f in range(len(frames) - 1)]
    against = {"picture_ssim": ssim, "brightness_drift": brightness_drift, "contrast_drift": contrast_drift}
    along = {"flow_score": flow_score, "warping_error": warping_error}
    return {
        **{name: [number(frame, image[None]) for frame in still_wanted(singles)] for name, number in against.items()},
        **{name: [number(pair) for pair in still_wanted(pairs)] for name, number in along.items()},
    }


def frame_panels(clips: Mapping[str, Numbers]) -> list[Panel]:
    """A panel for each number, drawn over the frames with a line for each clip."""
    names = next(iter(clips.values()))
    return [_panel(name, {clip: numbers[name] for clip, numbers in clips.items()}) for name in names]


def means(numbers: Numbers) -> dict[str, float]:
    """The mean over frames of every number."""
    return {name: float(np.mean(values)) for name, values in numbers.items()}


def as_text(clips: Mapping[str, Numbers]) -> str:
    """The means, one line for each number."""
    of = {clip: means(numbers) for clip, numbers in clips.items()}
    names = next(iter(of.values()))
    return "\n".join(
        f"{NUMBERS[name].label}: "
        + ", ".join(f"{plain(clip)} {numbers[name]:.{NUMBERS[name].digits}f}" for clip, numbers in of.items())
        for name in names
    )


def as_json(clips: Mapping[str, Numbers]) -> str:
    """Every number of every frame, and the means; null where a number is not finite, which JSON cannot express."""
    return json.dumps({clip: _finite({"frames": numbers, "mean": means(numbers)}) for clip, numbers in clips.items()})


def _finite(numbers: Any) -> Any:
    if isinstance(numbers, dict):
        return {name: _finite(value) for name, value in numbers.items()}
    if isinstance(numbers, list):
        return [_finite(value) for value in numbers]
    return numbers if math.isfinite(numbers) else None


def _panel(name: str, of: Mapping[str, Sequence[float]]) -> Panel:
    term = NUMBERS[name]
    over = {clip: (range(len(values)), values) for clip, values in of.items()}
    return lines(term.label, "frame", term.label, over, digits=term.digits)
