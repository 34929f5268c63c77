"""The frozen base of a training, with the encoders that belong to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPVisionModel

from ..bindings.diffusers import animatediff_scheduler
from ..bindings.diffusers.checkpoint import Checkpoint, load_checkpoint
from ..bindings.diffusers.clip_vocabulary import LENGTH
from ..bindings.diffusers.vision import load_vision, see
from ..clips.reference import ImageFeatures
from ..modules.motion import MotionModule
from ..modules.retention import STEM_CHANNELS
from ..modules.text import Text
from ..weights import MOTION_MODULE, load
from .clips.cache import Encoders
from .clips.probe import digest_of
from .config import ModelTable

IMAGES_AT_ONCE = 8


class VideoEncoders(Encoders, Protocol):
    """Encoders that also make images of latents, and can be moved."""

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, C, h, w) in the UNet's scale to images (B, 3, H, W) in [0, 1]."""
        ...

    def to(self, device: torch.device) -> None:
        """Move the networks."""
        ...


@dataclass(frozen=True)
class ClipVision:
    """CLIP's image encoder from a file."""

    encoder: CLIPVisionModel
    key: str

    @classmethod
    def load(cls, file: Path | None) -> ClipVision | None:
        """None without a file. Raises WeightsError where it is none of CLIP's."""
        return cls(load_vision(file), digest_of([file])) if file else None

    def see(self, image: Tensor) -> ImageFeatures:
        return see(self.encoder, image)


@dataclass(frozen=True)
class VideoBase:
    """A text-to-video model, frozen.

    Attributes:
        scheduler: the noise schedule and prediction that UNet and motion module were trained with.
        latent_scale: the UNet's latents over the autoencoder's.
        stem_channels: of a new retention branch.
        vision: for a content adapter.
    """

    unet: UNet2DConditionModel
    motion: MotionModule
    encoders: VideoEncoders
    scheduler: DDIMScheduler
    latent_scale: float
    stem_channels: tuple[int, ...]
    vision: ClipVision | None = None


@dataclass(frozen=True)
class CheckpointEncoders:
    """Autoencoder and text encoders of a checkpoint."""

    checkpoint: Checkpoint
    key: str

    def encode(self, images: Tensor) -> Tensor:
        latents = torch.cat([self.checkpoint.encode(some) for some in torch.split(images, IMAGES_AT_ONCE)])
        return latents.float().cpu() * self.checkpoint.latent_scale

    def decode(self, latents: Tensor) -> Tensor:
        return self.checkpoint.decode(latents / self.checkpoint.latent_scale).cpu()

    def encode_text(self, prompts: Sequence[str]) -> Text:
        """Of a long prompt the first 75 tokens count."""
        states, pooled = self.checkpoint.encode_text(prompts)
        return Text(states[:, :LENGTH], pooled).to("cpu", torch.float32)

    def to(self, device: torch.device) -> None:
        for network in (self.checkpoint.vae, *self.checkpoint.text_encoders):
            network.to(device)


def load_base(model: ModelTable) -> VideoBase:
    """Stable Diffusion 1.5 or SDXL with a motion module, from the files of a configuration, on the CPU.

    Raises:
        WeightsError: a file cannot be read or holds something else; the message names it.
    """
    assert model.motion_module is not None
    loras = {lora.path: lora.strength for lora in model.loras}
    checkpoint = load_checkpoint(model.checkpoint, loras=loras, vae=model.vae)
    motion = load(MOTION_MODULE, model.motion_module)
    files = [model.checkpoint, *([model.vae] if model.vae else []), *loras]
    key = digest_of(files) + "".join(f"+{strength}" for strength in loras.values())
    encoders = CheckpointEncoders(checkpoint, key)
    scheduler = animatediff_scheduler(motion.config.betas, checkpoint.prediction_type)
    vision = ClipVision.load(model.clip_vision)
    return VideoBase(checkpoint.unet, motion, encoders, scheduler, checkpoint.latent_scale, STEM_CHANNELS, vision)
