"""From an image and prompts to frames, with any model that a :class:`VideoModel` describes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Protocol

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor

from ...clips.extend import check_among_last, join_clips, split_at_best
from ...clips.overlap import check_overlap, continued, join_overlapping
from ...clips.reference import ImageFeatures, Reference
from .injection import Parts, PartScales
from .sampling import sample
from .settings import Progress, Prompts, SamplingSettings

ADAPTER = PartScales(retention=0.0)


class VideoModel(Protocol):
    """A UNet with its parts, and what turns images and prompts into its inputs and its latents into images.

    Its methods take and return tensors on :attr:`device`, wherever the networks wait meanwhile.
    """

    @property
    def unet(self) -> UNet2DConditionModel:
        """With nothing attached."""

    @property
    def parts(self) -> Parts:
        """What is attached while sampling; the scales do not count."""

    @property
    def scheduler(self) -> DDIMScheduler:
        """The noise schedule and prediction type that the UNet is used with."""

    @property
    def latent_scale(self) -> float:
        """The UNet's latents over the autoencoder's."""

    @property
    def device(self) -> torch.device:
        """Where clips are computed."""

    def prompts(self, prompt: str, negative: str, features: ImageFeatures | None) -> Prompts:
        """Embeddings of both, with image tokens behind them where the model has a content adapter."""

    def features(self, image: Tensor) -> ImageFeatures | None:
        """What an image encoder sees in an image (1, 3, H, W) in [0, 1]; None without a content adapter."""

    def encode(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] to the autoencoder's latents (B, C, H/8, W/8)."""

    def decode(self, latents: Tensor) -> Tensor:
        """The autoencoder's latents (B, C, H/8, W/8) to images (B, 3, H, W) in [0, 1]."""

    def sampling(self) -> AbstractContextManager[None]:
        """Within this context UNet and parts are on :attr:`device`."""


@torch.inference_mode()
def sample_clip(
    model: VideoModel,
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
        model: all of its parts are attached, image tokens if the reference has features.
        prompt, negative: what the clip shows, and what it does not.
        settings: how it is sampled.
        reference: from :func:`reference_of`; without it the clip follows the prompt alone.
        scales: by default those of the I2V adapter without the retention branch.
        progress: called after each step.

    Returns:
        Frames (F, H, W, 3) in [0, 1] on the CPU.
    """
    return decode_clip(
        model, sample_latents(model, prompt, settings, reference, scales, negative=negative, progress=progress)
    )


@torch.inference_mode()
def sample_latents(
    model: VideoModel,
    prompt: str,
    settings: SamplingSettings,
    reference: Reference | None = None,
    scales: PartScales = ADAPTER,
    *,
    negative: str = "",
    progress: Progress | None = None,
) -> Tensor:
    """The latents (1, C, F, h, w) of a clip, at the UNet's scale; everything else as in `sample_clip`."""
    prompts = model.prompts(prompt, negative, _features(reference, settings))
    with model.sampling():
        return sample(
            model.unet,
            replace(model.parts, scales=scales),
            prompts,
            settings,
            reference,
            scheduler=model.scheduler,
            latent_scale=model.latent_scale,
            progress=progress,
        )


def _features(reference: Reference | None, settings: SamplingSettings) -> ImageFeatures | None:
    """What prompt and negative prompt are told of the image.

    Under plain guidance the negative one is told of no image (arXiv 2308.06721). Under dual guidance it stands for the
    image without text; what has no image either is predicted without tokens.
    """
    if reference is None or reference.features is None or settings.guidance is None:
        return reference.features if reference else None
    return replace(reference.features, null=reference.features.image)


@torch.inference_mode()
def reference_of(model: VideoModel, image: Tensor, encode: bool = True) -> Reference:
    """An image (1, 3, H, W) in [0, 1] as a reference, seen by every encoder that the model has.

    Without ``encode`` it has no latent: sampling starts from noise, and only the retention branch conditions on it.
    """
    pixels = image.to(model.device)
    return Reference(pixels, model.encode(pixels) if encode else None, model.features(pixels))


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
def continue_sequence(
    model: VideoModel,
    sampled: Callable[[Reference, str, SamplingSettings], Tensor],
    reference: Reference,
    prompts: Sequence[str],
    settings: SamplingSettings,
    overlap: int,
) -> Tensor:
    """Join a clip for each prompt into one. Each begins with the last ``overlap`` frames of the one before, as latents.

    Args:
        model: decodes the clips.
        sampled: makes the latents (1, C, F, h, w) of a clip from a reference, a prompt and settings.
        reference: the first clip's.
        prompts: one for each clip.
        settings: of all clips; the seed rises by one from clip to clip.
        overlap: how many frames two neighbours have in common.

    Returns:
        Frames (F, H, W, 3) in [0, 1].

    Raises:
        FirstFrameError: before anything is sampled, where the last seed or ``overlap`` is out of its range.
    """
    each = [replace(settings, seed=settings.seed + index) for index in range(len(prompts))]
    check_overlap(overlap, settings.num_frames)
    clips: list[Tensor] = []
    for prompt, own in zip(prompts, each, strict=True):
        latents = sampled(reference, prompt, own)
        clips.append(decode_clip(model, latents))
        reference = replace(
            continued(latents[0].movedim(1, 0) / model.latent_scale, clips[-1], overlap), features=reference.features
        )
    return join_overlapping(clips, overlap)


@torch.inference_mode()
def decode_clip(model: VideoModel, latents: Tensor) -> Tensor:
    """Latents (1, C, F, h, w) of the UNet to frames (F, H, W, 3) in [0, 1] on the CPU."""
    frames = latents[0].movedim(1, 0) / model.latent_scale
    return model.decode(frames).movedim(1, -1).float().cpu()
