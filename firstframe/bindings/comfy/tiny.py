"""The tiny model inside the host: its own MODEL, CLIP and VAE, with the shipped weights."""

from __future__ import annotations

from typing import Any

import comfy.sd
from comfy.model_patcher import ModelPatcher
from comfy.sd1_clip import SD1ClipModel, SD1Tokenizer
from comfy.supported_models_base import ClipTarget
from safetensors.torch import load_file

from ...sites import UNetConfig
from ...tiny.config import AUTOENCODER, TEXT_ENCODER, UNET
from ...tiny.files import weights_file
from ...tiny.text import expand
from .motion import apply_motion
from .unet import build_unet
from .weights import load_host_adapter, load_host_motion

TINY_UNET = UNetConfig(
    block_out_channels=UNET["block_out_channels"],
    layers_per_block=UNET["layers_per_block"],
    attention=tuple(kind.startswith("CrossAttn") for kind in UNET["down_block_types"]),
    num_heads=UNET["attention_head_dim"],
    cross_attention_dim=UNET["cross_attention_dim"],
)


class Channels(int):
    """A number of channels that stays a whole number when it is multiplied by 1.5."""

    def __mul__(self, factor: float) -> int:
        return round(int(self) * factor)


def load_tiny_model() -> ModelPatcher:
    """The text-to-video base: UNet with its motion module applied."""
    base = build_unet(TINY_UNET, load_file(weights_file("unet")))
    return apply_motion(base, load_host_motion(weights_file("motion_module")), 1.0, "auto")


def load_tiny_adapter() -> ModelPatcher:
    """The I2V adapter that was trained on the tiny base."""
    return load_host_adapter(weights_file("i2v_adapter"))


def load_tiny_clip() -> comfy.sd.CLIP:
    """The text encoder, with the host's CLIP tokenizer."""
    clip = comfy.sd.CLIP(
        ClipTarget(SD1Tokenizer, SD1ClipModel), model_options={"clip_l_model_config": _text_config()}
    )
    clip.load_sd(expand(load_file(weights_file("text_encoder"))))
    return clip


def load_tiny_vae() -> comfy.sd.VAE:
    """The autoencoder. The host translates diffusers' names itself."""
    config = {"params": {"ddconfig": _autoencoder_config(), "embed_dim": AUTOENCODER["latent_channels"]}}
    return comfy.sd.VAE(sd=load_file(weights_file("autoencoder")), config=config)


def _text_config() -> dict[str, Any]:
    """What is not set stays as in the host's CLIP: the vocabulary and its special tokens."""
    return {name: value for name, value in TEXT_ENCODER.items() if value is not None}


def _autoencoder_config() -> dict[str, Any]:
    widths = AUTOENCODER["block_out_channels"]
    return {
        "double_z": True,
        "z_channels": AUTOENCODER["latent_channels"],
        "resolution": AUTOENCODER["sample_size"],
        "in_channels": 3,
        "out_ch": 3,
        "ch": Channels(widths[0]),
        "ch_mult": [width / widths[0] for width in widths],
        "num_res_blocks": AUTOENCODER["layers_per_block"],
        "attn_resolutions": [],
        "dropout": 0.0,
    }
