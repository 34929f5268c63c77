"""Choices by name that stand for other inputs: amounts of motion, and intervals of guidance."""

from __future__ import annotations

from ..firstframe.sampling.guidance import PASSES, Interval, Passes
from ..firstframe.sampling.prior import MOTION, Knobs

CUSTOM = "custom"
NAMED = {f"{name} (t0 {knobs.start_time:g}, p {knobs.keep_probability:g})": knobs for name, knobs in MOTION.items()}
INTERVALS = {
    f"{name} (image {passes.image_interval[1]:g}, text {passes.text_interval[1]:g})": passes
    for name, passes in PASSES.items()
}


def knobs_of(motion: str, start_time: float, keep_probability: float) -> Knobs:
    """The knobs of a choice."""
    return Knobs(start_time, keep_probability) if motion == CUSTOM else NAMED[motion]


def intervals_of(passes: str, image_interval: Interval, text_interval: Interval) -> Passes:
    """The intervals of a choice."""
    return Passes(image_interval, text_interval) if passes == CUSTOM else INTERVALS[passes]
