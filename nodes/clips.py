"""Clips on sockets: frames (IMAGE), or a video of ComfyUI's own (VIDEO)."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, TypeAlias

from comfy_api.latest import Input, InputImpl, Types, io
from torch import Tensor

from ..firstframe.clips.images import rgb_frames

Clip: TypeAlias = Tensor | Input.Video


def clip_input(id: str, tooltip: str, optional: bool = False) -> io.Input:
    """A socket that takes frames or a video."""
    return io.MultiType.Input(id, types=[io.Image, io.Video], optional=optional, tooltip=tooltip)


def frames_of(clip: Clip) -> Tensor:
    """The frames (F, H, W, 3) of a clip in [0, 1]. Raises ImageError where they are none."""
    return rgb_frames(clip if isinstance(clip, Tensor) else clip.get_components().images)


def as_video(frames: Tensor, fps: float, audio: dict[str, Any] | None = None) -> Input.Video:
    """Frames (F, H, W, 3) as a video of ComfyUI's own."""
    return InputImpl.VideoFromComponents(
        Types.VideoComponents(images=frames, audio=audio, frame_rate=Fraction(fps).limit_denominator(1000))
    )
