"""FirstFrame: image-to-video for Stable Diffusion 1.5 and SDXL, with the image as the first frame.

The names below are the public Python API. They are imported when they are first used, so that importing the package
itself costs nothing. Everything else may move.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bindings.diffusers import (
        Parts as Parts,
        PartScales as PartScales,
        Pooled as Pooled,
        Prompts as Prompts,
        SamplingSettings as SamplingSettings,
        animatediff_scheduler as animatediff_scheduler,
        inject as inject,
        sample as sample,
    )
    from .bindings.diffusers.animate import Animation as Animation, animate_image as animate_image
    from .bindings.diffusers.models import ModelFiles as ModelFiles, load_model as load_model
    from .bindings.diffusers.pipeline import (
        VideoModel as VideoModel,
        animate_sequence as animate_sequence,
        reference_of as reference_of,
        sample_clip as sample_clip,
    )
    from .clips.color import match_color as match_color
    from .clips.extend import join_clips as join_clips, split_at_best as split_at_best
    from .clips.reference import Reference as Reference, prepare_image as prepare_image
    from .clips.video import contact_sheet as contact_sheet, read_clip as read_clip, write_clip as write_clip
    from .errors import FirstFrameError as FirstFrameError
    from .modules.backend import TORCH as TORCH, Backend as Backend
    from .modules.i2v_adapter import CrossFrameAttention as CrossFrameAttention, I2VAdapter as I2VAdapter
    from .modules.image_prompt import ImageTokenAdapter as ImageTokenAdapter, Resampler as Resampler
    from .modules.motion import MotionConfig as MotionConfig, MotionModule as MotionModule
    from .modules.retention import RetentionBranch as RetentionBranch, RetentionConfig as RetentionConfig
    from .sampling.guidance import DualGuidance as DualGuidance, LowPass as LowPass
    from .sampling.prior import frame_similarity_prior as frame_similarity_prior, mask_generator as mask_generator
    from .sampling.schedule import Schedule as Schedule
    from .sampling.strength import Curve as Curve, StrengthSchedule as StrengthSchedule
    from .sites import SD15 as SD15, SDXL as SDXL, Site as Site, UNetConfig as UNetConfig
    from .tiny.model import TinyModel as TinyModel, load_tiny as load_tiny
    from .weights import (
        I2V_ADAPTER as I2V_ADAPTER,
        IMAGE_TOKENS as IMAGE_TOKENS,
        MOTION_MODULE as MOTION_MODULE,
        RESAMPLER as RESAMPLER,
        RETENTION as RETENTION,
        load as load,
        save as save,
    )

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
