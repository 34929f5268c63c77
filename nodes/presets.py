"""Amounts of motion by name, each a pair of the prior's two knobs."""

from __future__ import annotations

from comfy_api.latest import io

from ..firstframe.sampling.prior import MOTION

CUSTOM = "custom"
NAMED = {f"{name} (t0 {knobs.start_time:g}, p {knobs.keep_probability:g})": knobs for name, knobs in MOTION.items()}


def motion_input() -> io.Input:
    """A choice that stands for start_time and keep_probability. web/motion.js shows in the editor what it sets."""
    return io.Combo.Input(
        "motion",
        options=[CUSTOM, *NAMED],
        default=CUSTOM,
        optional=True,
        tooltip="How much moves. Sets start_time (t0) and keep_probability (p) to its values; custom takes yours.",
    )


def knobs_of(motion: str, start_time: float, keep_probability: float) -> tuple[float, float]:
    """(t0, p) of a choice."""
    if motion == CUSTOM:
        return start_time, keep_probability
    return NAMED[motion].start_time, NAMED[motion].keep_probability
