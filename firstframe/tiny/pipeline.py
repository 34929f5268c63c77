"""From a picture and a sentence to frames, with the model that ships with the pack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..bindings.diffusers import Retention, SamplingSettings, animate, generate
from ..bindings.diffusers.sampling import Progress
from ..clips.extend import join_clips, split_at_best
from .model import TinyModel


@dataclass(frozen=True)
class PartScales:
    """Of the parts that see the picture: 1 is as trained, 0 is as good as none, bit for bit."""

    adapter: float = 1.0
    retention: float = 0.0


@torch.inference_mode()
def animate_picture(
    model: TinyModel,
    picture: Tensor,
    prompt: str,
    settings: SamplingSettings,
    strengths: PartScales = PartScales(),
    *,
    negative: str = "",
    progress: Progress | None = None,
) -> Tensor:
    """Frames (F, H, W, 3) in [0, 1] that start with a picture (1, 3, H, W) and move as the prompt says.

    The clean first frame is held, and sampling starts from the frame similarity prior (arXiv 2312.16693).
    """
    text, no_text = model.encode_text([prompt, negative]).chunk(2)
    latents = animate(
        model.unet,
        text,
        no_text,
        model.encode(picture.to(model.unet.device)),
        settings,
        adapter=model.adapter,
        adapter_scale=strengths.adapter,
        retention=_retention(model, picture, strengths.retention),
        retention_scale=strengths.retention,
        **_model_options(model, progress),
    )
    return decode_clip(model, latents)


@torch.inference_mode()
def retain_picture(
    model: TinyModel,
    picture: Tensor,
    prompt: str,
    settings: SamplingSettings,
    *,
    strength: float = 1.0,
    negative: str = "",
    progress: Progress | None = None,
) -> Tensor:
    """As :func:`animate_picture`, from noise and through the retention branch alone (DreamVideo, arXiv 2312.03018).

    No frame is held: frame 0 is the branch's own, so that it resembles the picture and is not equal to it.
    """
    text, no_text = model.encode_text([prompt, negative]).chunk(2)
    latents = generate(
        model.unet,
        text,
        no_text,
        _latent_shape(model, *picture.shape[2:]),
        settings,
        retention=_retention(model, picture, strength),
        retention_scale=strength,
        **_model_options(model, progress),
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
    latents = generate(
        model.unet,
        text,
        no_text,
        _latent_shape(model, *size),
        settings,
        **_model_options(model, progress),
    )
    return decode_clip(model, latents)


def animate_sequence(
    animated: Callable[[Tensor, str, SamplingSettings], Tensor],
    picture: Tensor,
    prompts: Sequence[str],
    settings: SamplingSettings,
    among_last: int = 1,
) -> Tensor:
    """One long clip: a clip for each prompt, each starting with the picture where the one before ended.

    animated: makes a clip of a picture and a prompt, as :func:`animate_picture` does.
    among_last: as in :func:`firstframe.clips.extend.split_at_best`.

    Every clip has a seed of its own: the next number.
    """
    clips: list[Tensor] = []
    for index, prompt in enumerate(prompts):
        if clips:
            last, clips[-1] = split_at_best(clips[-1], among_last)
            picture = last.movedim(-1, 1)
        clips.append(animated(picture, prompt, replace(settings, seed=settings.seed + index)))
    return join_clips(clips)


@torch.inference_mode()
def decode_clip(model: TinyModel, latents: Tensor) -> Tensor:
    """Latents (1, C, F, h, w) to frames (F, H, W, 3) in [0, 1] on the CPU."""
    return model.decode(latents[0].movedim(1, 0)).movedim(1, -1).cpu()


def _retention(model: TinyModel, picture: Tensor, strength: float) -> Retention | None:
    if strength == 0.0:
        return None
    return Retention(model.retention, model.retention.encode(picture.to(model.unet.device)))


def _latent_shape(model: TinyModel, height: int, width: int) -> tuple[int, int, int]:
    return model.unet.config.in_channels, height // 8, width // 8


def _model_options(model: TinyModel, progress: Progress | None) -> dict[str, Any]:
    return {"motion": model.motion, "scheduler": model.scheduler, "progress": progress}
