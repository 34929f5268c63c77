"""The tiny model as the base of a training on other clips."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..modules.text import Text
from ..training.base import ClipVision, VideoBase
from ..training.config import TINY, ModelTable
from .config import AUTOENCODER, STEM_CHANNELS
from .files import weights_file
from .model import TinyModel, load_tiny


@dataclass(frozen=True)
class TinyEncoders:
    """Autoencoder and text encoder of the tiny model."""

    model: TinyModel
    key: str

    def encode(self, images: Tensor) -> Tensor:
        return self.model.encode(images.to(self.model.autoencoder.device)).cpu() * AUTOENCODER["scaling_factor"]

    def decode(self, latents: Tensor) -> Tensor:
        unscaled = latents / AUTOENCODER["scaling_factor"]
        return self.model.decode(unscaled.to(self.model.autoencoder.device)).cpu()

    def encode_text(self, prompts: Sequence[str]) -> Text:
        return Text(self.model.encode_text(list(prompts)).cpu())

    def to(self, device: torch.device) -> None:
        self.model.autoencoder.to(device)
        self.model.text_encoder.to(device)


def with_tiny_files(model: ModelTable) -> ModelTable:
    """``model`` with the shipped files in place of the adapter and the branch that are called "tiny"."""
    shipped = {"i2v_adapter": weights_file("i2v_adapter"), "retention": weights_file("retention")}
    return model.model_copy(update={key: file for key, file in shipped.items() if str(getattr(model, key)) == TINY})


def tiny_base(clip_vision: Path | None = None) -> VideoBase:
    """The shipped weights, on the CPU, with the file of an image encoder for a content adapter."""
    model = load_tiny()
    model.unet.requires_grad_(False)
    model.motion.requires_grad_(False)
    files = b"".join(weights_file(part).read_bytes() for part in ("autoencoder", "text_encoder"))
    encoders = TinyEncoders(model, hashlib.sha256(files).hexdigest()[:32])
    scale: float = AUTOENCODER["scaling_factor"]
    vision = ClipVision.load(clip_vision)
    return VideoBase(model.unet, model.motion, encoders, model.scheduler, scale, STEM_CHANNELS, vision)
