"""Stable Diffusion 1.5 scaled down, in one file with the published names, and a motion module for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from firstframe.bindings.diffusers.checkpoint.load import unet_arguments
from firstframe.modules.motion import MotionConfig, MotionModule
from firstframe.sites import UNetConfig
from firstframe.weights.keymaps import ANIMATEDIFF, to_theirs
from firstframe.weights.unet_names import unet_tensors

from .synthetic import AUTOENCODER_TO_LDM, filled, renamed, with_convolutions

SMALL = UNetConfig((32, 32), layers_per_block=1, attention=(True, False), num_heads=8, cross_attention_dim=64)
TEXT = CLIPTextConfig(hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=1)
AUTOENCODER: dict[str, Any] = {
    "block_out_channels": (32, 32, 32, 32),
    "layers_per_block": 1,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}


def write_checkpoint(file: Path) -> Path:
    """Random numbers in the names of a published checkpoint."""
    text = {name.removeprefix("text_model."): weight for name, weight in CLIPTextModel(TEXT).state_dict().items()}
    vae = with_convolutions(renamed(AutoencoderKL(**AUTOENCODER).state_dict(), AUTOENCODER_TO_LDM))
    parts = {
        "": unet_tensors(UNet2DConditionModel(**unet_arguments(SMALL)).state_dict(), "host", SMALL),
        "first_stage_model.": vae,
        "cond_stage_model.transformer.text_model.": text,
    }
    tensors = {prefix + name: tensor for prefix, part in parts.items() for name, tensor in part.items()}
    save_file(filled(tensors, 0), file, {"format": "pt"})
    return file


def write_motion(file: Path, max_frames: int = 32) -> Path:
    """A motion module in AnimateDiff's names; without a middle, as v3 is."""
    config = MotionConfig(SMALL.block_out_channels, SMALL.layers_per_block, False, max_frames, SMALL.num_heads)
    torch.save(filled(to_theirs(MotionModule(config).state_dict(), ANIMATEDIFF), 1), file)
    return file
