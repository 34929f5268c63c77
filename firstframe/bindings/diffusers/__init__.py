"""Image-to-video on a plain ``diffusers.UNet2DConditionModel``, without ComfyUI.

The UNet is called with frames as batch, ``(B*F, C, H, W)``; :func:`inject` makes it treat every ``F``
rows as a clip, :func:`animate` samples a clip from a picture's latent.
"""

from __future__ import annotations

from .inject import Injection, Retention, inject
from .sampling import SamplingSettings, animate, animatediff_scheduler, generate
from .unet import transformer_block, unet_config

__all__ = [
    "Injection",
    "Retention",
    "SamplingSettings",
    "animate",
    "animatediff_scheduler",
    "generate",
    "inject",
    "transformer_block",
    "unet_config",
]
