"""The tiny model while it is trained: text encoder, UNet and parts in one module."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from diffusers import DDPMScheduler, UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPTextModel

from ..bindings.diffusers.text import fill_text_encoder
from ..modules.i2v_adapter import I2VAdapter
from ..modules.motion import MotionConfig, MotionModule
from ..shapes import fold_frames, unfold_frames
from ..training.start import new_adapter
from ..weights import MOTION_MODULE, load, save_state_dict
from .config import MOTION, NOISE_SCHEDULE, UNET
from .files import weights_file
from .model import new_text_encoder, text_config


class Denoiser(nn.Module):
    """Text encoder, UNet and whatever is injected into it: noisy clips and captions to v.

    ``parts`` are modules that run inside the UNet through a binding (motion module, adapter): they are held
    here so that their parameters are trained and saved.
    """

    def __init__(self, text_encoder: CLIPTextModel, unet: UNet2DConditionModel, **parts: nn.Module) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        self.unet = unet
        self.parts = nn.ModuleDict(parts)

    @property
    def motion(self) -> MotionModule:
        """The part of that name."""
        return cast(MotionModule, self.parts["motion"])

    @property
    def adapter(self) -> I2VAdapter:
        """The part of that name."""
        return cast(I2VAdapter, self.parts["adapter"])

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Token ids (B, 77) to text states (B, 77, D)."""
        states: Tensor = self.text_encoder(tokens).last_hidden_state
        return states

    def forward(self, noisy: Tensor, timestep: Tensor, tokens: Tensor) -> Tensor:
        """Noisy latents (B, C, F, H, W), timesteps (B,), token ids (B, 77) to v (B, C, F, H, W)."""
        frames = noisy.shape[2]
        text = self.encode_text(tokens)
        output: Tensor = self.unet(fold_frames(noisy), timestep.repeat_interleave(frames), text).sample
        return unfold_frames(output, frames)

    def save(self, file: Path) -> None:
        """Write all weights into one safetensors file, for the next stage and for `.export`."""
        save_state_dict(file, self.state_dict(), {})


def new_base(file: Path | None = None, **parts: nn.Module) -> Denoiser:
    """A base with random weights, or with those that an earlier stage saved.

    Parts that the earlier stage did not have keep their own weights.
    """
    model = Denoiser(new_text_encoder(), UNet2DConditionModel(**UNET), **parts)
    if file is not None:
        model.load_state_dict(model.state_dict() | load_file(file))
    return model


def new_motion() -> MotionModule:
    """An untrained motion module for the tiny UNet."""
    return MotionModule(MotionConfig(**MOTION))


def exported_base(folder: Path) -> Denoiser:
    """The base that `.export` wrote into a folder: text encoder, UNet and motion module, in fp32."""
    model = new_base(motion=load(MOTION_MODULE, weights_file("motion_module", folder)))
    model.text_encoder = fill_text_encoder(
        CLIPTextModel, text_config(), load_file(weights_file("text_encoder", folder))
    )
    model.unet.load_state_dict(load_file(weights_file("unet", folder)))
    return model.float()


def with_adapter(file: Path) -> Denoiser:
    """The base with its motion module and the adapter, from the file of a stage that trained them."""
    model = new_base(motion=new_motion())
    return new_base(file, motion=model.motion, adapter=new_adapter(model.unet))


def alphas_cumprod() -> Tensor:
    """Alpha squared of each timestep of the noise schedule, (1000,)."""
    alphas: Tensor = DDPMScheduler(**NOISE_SCHEDULE).alphas_cumprod
    return alphas
