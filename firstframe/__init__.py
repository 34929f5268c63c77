"""FirstFrame: image-to-video for Stable Diffusion 1.5 and SDXL, with the image as the first frame.

The names below are the public Python API. They are imported when they are first used, so that importing the package
itself costs nothing. Everything else may move.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "1.0.0"

_HOMES = {
    "bindings.diffusers": (
        "PartScales",
        "Parts",
        "Pooled",
        "Prompts",
        "SamplingSettings",
        "animatediff_scheduler",
        "inject",
        "sample",
    ),
    "bindings.diffusers.animate": ("Animation", "animate_image"),
    "bindings.diffusers.models": ("ModelFiles", "load_model"),
    "bindings.diffusers.pipeline": ("VideoModel", "animate_sequence", "reference_of", "sample_clip"),
    "clips.color": ("match_color",),
    "clips.extend": ("join_clips", "split_at_best"),
    "clips.reference": ("Reference", "prepare_image"),
    "clips.video": ("contact_sheet", "read_clip", "write_clip"),
    "errors": ("FirstFrameError",),
    "modules.backend": ("TORCH", "Backend"),
    "modules.i2v_adapter": ("CrossFrameAttention", "I2VAdapter"),
    "modules.image_prompt": ("ImageTokenAdapter", "Resampler"),
    "modules.motion": ("MotionConfig", "MotionModule"),
    "modules.retention": ("RetentionBranch", "RetentionConfig"),
    "sampling.guidance": ("DualGuidance", "LowPass"),
    "sampling.prior": ("frame_similarity_prior", "mask_generator"),
    "sampling.schedule": ("Schedule",),
    "sampling.strength": ("Curve", "StrengthSchedule"),
    "sites": ("SD15", "SDXL", "Site", "UNetConfig"),
    "tiny.model": ("TinyModel", "load_tiny"),
    "weights": ("I2V_ADAPTER", "IMAGE_TOKENS", "MOTION_MODULE", "RESAMPLER", "RETENTION", "load", "save"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["__version__", *_HOME_OF]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})
