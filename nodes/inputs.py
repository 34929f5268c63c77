"""Inputs that several nodes have."""

from __future__ import annotations

from comfy_api.latest import io

from .aliases import advanced
from .presets import CUSTOM, INTERVALS, NAMED

WITH_IMAGE = "its pass is skipped, unless the image scale needs it"


def num_frames_input() -> io.Input:
    """Frames of an AnimateDiff clip."""
    return io.Int.Input(
        "num_frames",
        default=16,
        min=2,
        max=4096,
        tooltip="Frames of the video, at most what the motion module has positions for (16, 24 or 32).",
    )


def seed_input(draws: str) -> io.Input:
    """A seed; ``draws`` is its tooltip."""
    return io.Int.Input("seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True, tooltip=draws)


def prior_inputs(default: float, start: str) -> list[io.Input]:
    """The two knobs of the prior. ``default`` is that of t0, ``start`` ends its tooltip."""
    return [
        io.Float.Input(
            "start_time",
            default=default,
            min=0.05,
            max=1.0,
            step=0.01,
            tooltip=f"t0 of the paper: where sampling starts, as a share of the {start}",
        ),
        io.Float.Input(
            "keep_probability",
            default=0.5,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip=(
                "Share of the image's latent that the start keeps unblurred; the paper's p is 1 minus this. "
                "1 keeps all and is the steadiest, less moves more."
            ),
        ),
    ]


def blur_inputs() -> list[io.Input]:
    """The blur of the prior, and the seed that draws which parts escape it."""
    return [
        io.Int.Input(
            "blur_kernel",
            default=9,
            min=3,
            max=63,
            step=2,
            **advanced(),
            tooltip="Size of the blur in latent pixels (8 or more image pixels), odd. 9 as published, for 512 pixels.",
        ),
        io.Float.Input(
            "blur_sigma",
            default=18.0,
            min=0.1,
            max=100.0,
            step=0.1,
            **advanced(),
            tooltip="Standard deviation of the blur in latent pixels. 18 as published; near 0 blurs nothing.",
        ),
        seed_input(
            "Chooses which parts are kept. It may be the same number as the sampler's seed, which draws the noise."
        ),
    ]


def scale_inputs() -> list[io.Input]:
    """Both scales."""
    return [
        io.Float.Input(
            "image_scale",
            default=1.5,
            min=0.0,
            max=30.0,
            step=0.1,
            tooltip="How much more the image counts than without it. 1 is neutral and saves a third of the time.",
        ),
        io.Float.Input(
            "text_scale",
            default=7.5,
            min=0.0,
            max=30.0,
            step=0.1,
            tooltip="How much more the text counts than without it. 1 is neutral. Tiny model: 2.",
        ),
    ]


def _percent(id: str, default: float, what: str, saved: str = "its pass is skipped") -> io.Float.Input:
    tooltip = f"{what} in the noise schedule, 0 (all noise) to 1 (none). Outside, the scale is 1 and {saved}."
    return io.Float.Input(id, default=default, min=0.0, max=1.0, step=0.001, tooltip=tooltip, **advanced())


def refinement_inputs() -> list[io.Input]:
    """Where the scales hold, and what keeps high ones from burning in."""
    return [
        _percent("image_start", 0.0, "Where the image scale begins"),
        _percent("image_end", 1.0, "Where the image scale ends"),
        _percent("text_start", 0.0, "Where the text scale begins", WITH_IMAGE),
        _percent("text_end", 1.0, "Where the text scale ends", WITH_IMAGE),
        io.Float.Input(
            "parallel",
            **advanced(),
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip=(
                "Share of the guidance along the prediction that is kept (APG). That part brightens and saturates. 1 "
                "keeps all of it; 0 removes it."
            ),
        ),
        io.Float.Input(
            "rescale",
            **advanced(),
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="Share of the result whose contrast is brought back to that of the unguided one. 0 is off.",
        ),
    ]


def low_pass_inputs(purpose: str) -> list[io.Input]:
    """How soft the early steps see the image, and where they end. ``purpose`` begins the first tooltip."""
    return [
        io.Float.Input(
            "early_detail",
            default=1.0,
            min=0.05,
            max=1.0,
            step=0.05,
            optional=True,
            tooltip=f"{purpose} 1 is off; 0.4 as published.",
        ),
        io.Float.Input(
            "early_end",
            **advanced(),
            default=0.2,
            min=0.0,
            max=1.0,
            step=0.01,
            optional=True,
            tooltip="Where the early steps end in the noise schedule, 0 (all noise) to 1 (none). Later is more motion.",
        ),
    ]


def motion_input() -> io.Input:
    """A choice that stands for start_time and keep_probability. web/motion.js shows in the editor what it sets."""
    return io.Combo.Input(
        "motion",
        options=[CUSTOM, *NAMED],
        default=CUSTOM,
        optional=True,
        tooltip=(
            "How much moves. Each choice sets start_time (t0) and keep_probability, which its name calls p; custom "
            "uses your own values."
        ),
    )


def passes_input() -> io.Input:
    """A choice that stands for the intervals of both scales."""
    return io.Combo.Input(
        "passes",
        options=[CUSTOM, *INTERVALS],
        default=CUSTOM,
        optional=True,
        tooltip=(
            "Passes of the model. Sets where the image scale and the text scale end; both start at 0. full: three "
            "passes a step. economical: about two, nearly the same clip. custom: your own starts and ends."
        ),
    )
