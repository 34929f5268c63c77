"""From a picture and a sentence to frames, with the model that ships with the pack."""

from __future__ import annotations

import torch
from torch import Tensor

from .bindings.diffusers import SamplingSettings, animate, generate
from .bindings.diffusers.sampling import Progress
from .tiny.model import TinyModel


@torch.inference_mode()
def animate_picture(
    model: TinyModel,
    picture: Tensor,
    prompt: str,
    settings: SamplingSettings,
    *,
    negative: str = "",
    strength: float = 1.0,
    progress: Progress | None = None,
) -> Tensor:
    """Frames (F, H, W, 3) in [0, 1] that start with a picture (1, 3, H, W) and move as the prompt says.

    strength: of the I2V adapter; 0 is as good as none, bit for bit.
    """
    text, no_text = model.encode_text([prompt, negative]).chunk(2)
    latents = animate(
        model.unet,
        text,
        no_text,
        model.encode(picture.to(model.unet.device)),
        settings,
        motion=model.motion,
        adapter=model.adapter,
        adapter_scale=strength,
        scheduler=model.scheduler,
        progress=progress,
    )
    return decode_clip(model, latents)


@torch.inference_mode()
def generate_clip(
    model: TinyModel,
    prompt: str,
    settings: SamplingSettings,
    size: tuple[int, int],
    *,
    negative: str = "",
    progress: Progress | None = None,
) -> Tensor:
    """Frames (F, H, W, 3) in [0, 1] from the prompt alone; size is (height, width) in pixels."""
    text, no_text = model.encode_text([prompt, negative]).chunk(2)
    shape = (model.unet.config.in_channels, size[0] // 8, size[1] // 8)
    latents = generate(
        model.unet,
        text,
        no_text,
        shape,
        settings,
        motion=model.motion,
        scheduler=model.scheduler,
        progress=progress,
    )
    return decode_clip(model, latents)


@torch.inference_mode()
def decode_clip(model: TinyModel, latents: Tensor) -> Tensor:
    """Latents (1, C, F, h, w) to frames (F, H, W, 3) in [0, 1] on the CPU."""
    return model.decode(latents[0].movedim(1, 0)).movedim(1, -1).cpu()
