"""The tiny model in one piece, outside ComfyUI: diffusers' and transformers' classes with our weights."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from ..bindings.diffusers import Parts, Prompts
from ..bindings.diffusers.text import fill_text_encoder
from ..clips.reference import ImageFeatures
from ..modules.i2v_adapter import I2VAdapter
from ..modules.motion import MotionModule
from ..modules.retention import RetentionBranch
from ..weights import I2V_ADAPTER, MOTION_MODULE, RETENTION, load
from .config import AUTOENCODER, NOISE_SCHEDULE, TEXT_ENCODER, UNET
from .files import FOLDER, weights_file
from .text import caption_ends, known_tokens, tokenize


@dataclass(frozen=True)
class TinyModel:
    """Everything that turns an image and a sentence into a clip of 16 frames of 128 x 128 pixels."""

    autoencoder: AutoencoderTiny
    text_encoder: CLIPTextModel
    unet: UNet2DConditionModel
    motion: MotionModule
    adapter: I2VAdapter
    retention: RetentionBranch

    @property
    def scheduler(self) -> DDIMScheduler:
        """DDIM on the noise schedule that the model was trained with."""
        return DDIMScheduler(**NOISE_SCHEDULE, steps_offset=1, timestep_spacing="leading", clip_sample=False)

    @property
    def parts(self) -> Parts:
        """All that is attached to the UNet."""
        return Parts(self.motion, self.adapter, retention=self.retention)

    @property
    def latent_scale(self) -> float:
        """The UNet's latents over the autoencoder's."""
        return float(AUTOENCODER["scaling_factor"])

    @property
    def device(self) -> torch.device:
        """Where everything is."""
        return self.unet.device

    def sampling(self) -> AbstractContextManager[None]:
        """All networks stay where they are."""
        return nullcontext()

    def prompts(self, prompt: str, negative: str, features: ImageFeatures | None = None) -> Prompts:
        """Text states of both."""
        text, no_text = self.encode_text([prompt, negative]).chunk(2)
        return Prompts(text, no_text)

    def features(self, image: Tensor) -> ImageFeatures | None:
        """The tiny model has no content adapter."""
        return None

    @torch.inference_mode()
    def encode_text(self, prompts: list[str]) -> Tensor:
        """Prompts to text states (B, 77, 128)."""
        tokens = tokenize(prompts).to(self.text_encoder.device)
        states: Tensor = self.text_encoder(tokens).last_hidden_state
        return states

    @torch.inference_mode()
    def encode(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1], H and W multiples of 8, to latents (B, 4, H/8, W/8) of unit variance."""
        latents: Tensor = self.autoencoder.encode(images * 2 - 1).latents
        return latents

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, 4, H/8, W/8) to images (B, 3, H, W) in [0, 1]."""
        images: Tensor = self.autoencoder.decode(latents).sample
        return (images / 2 + 0.5).clamp(0, 1)


def text_config() -> CLIPTextConfig:
    """One embedding for each known token, and one for all others."""
    start, end = caption_ends()
    ends = {"bos_token_id": start, "eos_token_id": end, "pad_token_id": end}
    return CLIPTextConfig(vocab_size=len(known_tokens()) + 1, **ends, **TEXT_ENCODER)


def new_text_encoder() -> CLIPTextModel:
    """A text encoder with random weights."""
    return CLIPTextModel(text_config())


def load_tiny(device: str | torch.device = "cpu", folder: Path = FOLDER) -> TinyModel:
    """Load the shipped weights, or those that a training run exported into a folder, in fp32."""
    file = partial(weights_file, folder=folder)
    autoencoder, unet = AutoencoderTiny(**AUTOENCODER), UNet2DConditionModel(**UNET)
    autoencoder.load_state_dict(load_file(file("autoencoder")))
    unet.load_state_dict(load_file(file("unet")))
    text_encoder = fill_text_encoder(CLIPTextModel, text_config(), load_file(file("text_encoder")))
    motion, adapter = load(MOTION_MODULE, file("motion_module")), load(I2V_ADAPTER, file("i2v_adapter"))
    retention = load(RETENTION, file("retention"))
    parts = (autoencoder, text_encoder, unet, motion, adapter, retention)
    for part in parts:
        part.float().to(device).eval().requires_grad_(False)
    return TinyModel(*parts)
