"""Image-to-video on a plain ``diffusers.UNet2DConditionModel``, without ComfyUI.

The UNet is called with frames as batch, ``(B*F, C, H, W)``; `inject` makes it treat every ``F``
rows as a clip, `sample` makes a clip from an image, a prompt, or both.
"""

from __future__ import annotations

from .inject import inject
from .injection import Injection, Parts, PartScales, Retention
from .sampling import sample
from .settings import Pooled, Prompts, SamplingSettings, animatediff_scheduler
from .unet import transformer_block, unet_config

__all__ = [
    "Injection",
    "PartScales",
    "Parts",
    "Pooled",
    "Prompts",
    "Retention",
    "SamplingSettings",
    "animatediff_scheduler",
    "inject",
    "sample",
    "transformer_block",
    "unet_config",
]
