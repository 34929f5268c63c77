"""From an image and a prompt to frames, with the model that ships with the pack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..bindings.diffusers import Parts, PartScales, Prompts, SamplingSettings, sample
from ..bindings.diffusers.settings import Progress
from ..clips.extend import check_among_last, join_clips, split_at_best
from ..clips.reference import Reference
from .config import AUTOENCODER
from .model import TinyModel

ADAPTER = PartScales(retention=0.0)


@torch.inference_mode()
def sample_clip(
    model: TinyModel,
    prompt: str,
    settings: SamplingSettings,
    reference: Reference | None = None,
    scales: PartScales = ADAPTER,
    *,
    negative: str = "",
    progress: Progress | None = None,
) -> Tensor:
    """Sample a clip with :func:`firstframe.bindings.diffusers.sample` and decode it.

    Args:
        model: all of its parts are attached.
        prompt, negative: what the clip shows, and what it does not.
        settings: how it is sampled.
        reference: from :func:`reference_of`; without it the clip follows the prompt alone.
        scales: by default those of the I2V adapter without the retention branch.
        progress: called after each step.

    Returns:
        Frames (F, H, W, 3) in [0, 1] on the CPU.
    """
    parts = Parts(model.motion, model.adapter, retention=model.retention, scales=scales)
    text, no_text = model.encode_text([prompt, negative]).chunk(2)
    latents = sample(
        model.unet,
        parts,
        Prompts(text, no_text),
        settings,
        reference,
        scheduler=model.scheduler,
        latent_scale=AUTOENCODER["scaling_factor"],
        progress=progress,
    )
    return decode_clip(model, latents)


@torch.inference_mode()
def reference_of(model: TinyModel, image: Tensor, encode: bool = True) -> Reference:
    """An image (1, 3, H, W) in [0, 1] as a reference.

    Without ``encode`` it has no latent: sampling starts from noise, and only the retention branch conditions on it.
    """
    pixels = image.to(model.unet.device)
    return Reference(pixels, model.encode(pixels) if encode else None)


def animate_sequence(
    animated: Callable[[Tensor, str, SamplingSettings], Tensor],
    image: Tensor,
    prompts: Sequence[str],
    settings: SamplingSettings,
    among_last: int = 1,
) -> Tensor:
    """Join a clip for each prompt into one, each starting with the image where the one before ended.

    Args:
        animated: makes a clip of an image (1, 3, H, W), a prompt and settings.
        image: the first clip's.
        prompts: one for each clip.
        settings: of all clips; the seed rises by one from clip to clip.
        among_last: as in :func:`firstframe.clips.extend.split_at_best`.

    Returns:
        Frames (F, H, W, 3) in [0, 1].

    Raises:
        FirstFrameError: before anything is sampled, where the last seed or ``among_last`` is out of its range.
    """
    each = [replace(settings, seed=settings.seed + index) for index in range(len(prompts))]
    if len(prompts) > 1:
        check_among_last(among_last, settings.num_frames)
    clips: list[Tensor] = []
    for prompt, own in zip(prompts, each, strict=True):
        if clips:
            last, clips[-1] = split_at_best(clips[-1], among_last)
            image = last.movedim(-1, 1)
        clips.append(animated(image, prompt, own))
    return join_clips(clips)


@torch.inference_mode()
def decode_clip(model: TinyModel, latents: Tensor) -> Tensor:
    """Latents (1, C, F, h, w) to frames (F, H, W, 3) in [0, 1] on the CPU."""
    return model.decode(latents[0].movedim(1, 0)).movedim(1, -1).cpu()
