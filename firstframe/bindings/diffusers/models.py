"""Published weights as one model, without the host: a checkpoint, its motion module, and what else is attached."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPVisionModel

from ...clips.reference import ImageFeatures
from ...errors import FirstFrameError
from ...modules.image_prompt import ImageTokenAdapter, Resampler
from ...weights import I2V_ADAPTER, IMAGE_TOKENS, MOTION_MODULE, RESAMPLER, RETENTION, has_motion_module, load
from .checkpoint import Checkpoint, load_checkpoint
from .injection import Parts
from .settings import Pooled, Prompts, animatediff_scheduler
from .vision import load_vision, see


@dataclass(frozen=True)
class ModelFiles:
    """The files of a model; what is not given is left out.

    Attributes:
        checkpoint: Stable Diffusion 1.5, SDXL, or a model made from one of them, in one file.
        motion_module: AnimateDiff's, or one of our own. A retention branch's file may have one inside.
        i2v_adapter: of arXiv 2312.16693.
        retention: the frame retention branch of arXiv 2312.03018.
        content_adapter: IP-Adapter Plus, which needs ``clip_vision``.
        projections: a file with the content adapter's projections, where they are not in its own.
        clip_vision: CLIP's image encoder ViT-H.
        vae: takes the place of the checkpoint's.
        loras: for UNet and text encoders, with their strengths.
    """

    checkpoint: Path
    motion_module: Path | None = None
    i2v_adapter: Path | None = None
    retention: Path | None = None
    content_adapter: Path | None = None
    projections: Path | None = None
    clip_vision: Path | None = None
    vae: Path | None = None
    loras: Mapping[Path, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ContentAdapter:
    """The half of IP-Adapter Plus outside of the UNet: an image encoder, and what makes tokens of its states."""

    encoder: CLIPVisionModel
    resampler: Resampler


@dataclass(frozen=True)
class CheckpointModel:
    """A model of Stable Diffusion 1.5 or SDXL with its parts; a :class:`~.pipeline.VideoModel`.

    Attributes:
        device: where clips are computed.
        offload: whether each network waits on the CPU until it is its turn: text encoder, image encoder, VAE, UNet
            with its parts. Without it, each stays on the device once it was there.
    """

    checkpoint: Checkpoint
    parts: Parts
    content: ContentAdapter | None
    device: torch.device
    offload: bool = False

    @property
    def unet(self) -> UNet2DConditionModel:
        """The checkpoint's."""
        return self.checkpoint.unet

    @property
    def latent_scale(self) -> float:
        """The UNet's latents over the autoencoder's."""
        return self.checkpoint.latent_scale

    @property
    def scheduler(self) -> DDIMScheduler:
        """The motion module's noise schedule, with what the checkpoint predicts."""
        name = self.parts.motion.config.betas if self.parts.motion else None
        return animatediff_scheduler(name, self.checkpoint.prediction_type)

    @property
    def attached(self) -> list[nn.Module]:
        """The parts that are there."""
        every = (self.parts.motion, self.parts.adapter, self.parts.image_tokens, self.parts.retention)
        return [part for part in every if part is not None]

    @contextmanager
    def sampling(self) -> Iterator[None]:
        """Within this context UNet and parts are on the device."""
        with self._there(self.unet, *self.attached):
            yield

    def prompts(self, prompt: str, negative: str, features: ImageFeatures | None) -> Prompts:
        """Text states of both prompts; behind them the tokens of the image, and those of no image."""
        with self._there(*self.checkpoint.text_encoders):
            states, pooled = self.checkpoint.encode_text([prompt, negative])
        (text, none), of_sdxl = states.chunk(2), None if pooled is None else Pooled(*pooled.chunk(2))
        if self.content is None or self.parts.image_tokens is None:
            return Prompts(text, none, of_sdxl)
        if features is None:
            raise FirstFrameError("the content adapter needs a reference with features: make it with reference_of")
        with self._there(self.content.resampler), torch.no_grad():
            image, null = (self.content.resampler(one.to(self.device)) for one in (features.image, features.null))
        return Prompts(torch.cat([text, image.to(text)], dim=1), torch.cat([none, null.to(none)], dim=1), of_sdxl)

    def features(self, image: Tensor) -> ImageFeatures | None:
        """What the image encoder sees in an image (1, 3, H, W) in [0, 1]."""
        if self.content is None:
            return None
        with self._there(self.content.encoder):
            return see(self.content.encoder, image)

    def encode(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] to the autoencoder's latents (B, 4, H/8, W/8)."""
        with self._there(self.checkpoint.vae):
            return self.checkpoint.encode(images)

    def decode(self, latents: Tensor) -> Tensor:
        """The autoencoder's latents (B, 4, H/8, W/8) to images (B, 3, H, W) in [0, 1]."""
        with self._there(self.checkpoint.vae):
            return self.checkpoint.decode(latents)

    @contextmanager
    def _there(self, *networks: nn.Module) -> Iterator[None]:
        """The networks are on the device; with ``offload`` they go back to the CPU."""
        with ExitStack() as back:
            for network in networks:
                network.to(self.device)
                if self.offload:
                    back.callback(network.to, "cpu")
            yield


def load_model(
    files: ModelFiles,
    device: torch.device | str = "cpu",
    *,
    dtype: torch.dtype | None = None,
    offload: bool = False,
) -> CheckpointModel:
    """Load a model from its files; nothing is downloaded.

    Args:
        files: at least a checkpoint and a motion module.
        device: where clips are computed.
        dtype: of UNet, parts and text encoder; by default fp16 on CUDA and fp32 elsewhere. VAE and image encoder are
            kept in fp32.
        offload: see :class:`CheckpointModel`.

    Raises:
        WeightsError: a file cannot be read, or is not what it is given for.
        FirstFrameError: files are missing that others need.
    """
    device = torch.device(device)
    dtype = dtype or (torch.float16 if device.type == "cuda" else torch.float32)
    _check(files)
    checkpoint = load_checkpoint(files.checkpoint, loras=files.loras, vae=files.vae, dtype=dtype)
    parts = Parts(
        load(MOTION_MODULE, files.motion_module or _needed(files.retention), dtype=dtype),
        load(I2V_ADAPTER, files.i2v_adapter, dtype=dtype) if files.i2v_adapter else None,
        _projections(files, dtype),
        load(RETENTION, files.retention, dtype=dtype) if files.retention else None,
    )
    model = CheckpointModel(checkpoint, parts, _content(files), device, offload)
    for part in model.attached:
        part.eval().requires_grad_(False)
    return model


def _check(files: ModelFiles) -> None:
    if not files.motion_module and not (files.retention and has_motion_module(files.retention)):
        raise FirstFrameError("a checkpoint alone makes no motion: give a motion module, for example v3_sd15_mm.ckpt")
    if files.content_adapter and not files.clip_vision:
        raise FirstFrameError("the content adapter needs its image encoder: give CLIP ViT-H as the CLIP vision file")


def _needed(path: Path | None) -> Path:
    assert path is not None
    return path


def _projections(files: ModelFiles, dtype: torch.dtype) -> ImageTokenAdapter | None:
    file = files.projections or files.content_adapter
    return load(IMAGE_TOKENS, file, dtype=dtype) if files.content_adapter and file else None


def _content(files: ModelFiles) -> ContentAdapter | None:
    if not files.content_adapter or not files.clip_vision:
        return None
    resampler = load(RESAMPLER, files.content_adapter).eval().requires_grad_(False)
    return ContentAdapter(load_vision(files.clip_vision), resampler)
