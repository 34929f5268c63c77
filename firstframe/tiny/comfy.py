"""The tiny model inside the host: its own MODEL, CLIP and VAE, with the shipped weights."""

from __future__ import annotations

import comfy.sd
import torch
from comfy.model_base import ModelType
from comfy.model_patcher import ModelPatcher
from comfy.sd1_clip import SD1ClipModel, SD1Tokenizer
from comfy.supported_models_base import ClipTarget
from safetensors.torch import load_file

from ..bindings.comfy.build import build_unet
from ..bindings.comfy.motion import apply_motion
from ..bindings.comfy.weights import can_be_loaded_again, load_in_host
from ..sites import UNetConfig
from ..weights import I2V_ADAPTER, MOTION_MODULE, RETENTION
from .config import LATENT_SCALE, NOISE_SCHEDULE, TEXT_ENCODER, UNET
from .files import weights_file
from .text import expand

TINY_UNET = UNetConfig(
    block_out_channels=UNET["block_out_channels"],
    layers_per_block=UNET["layers_per_block"],
    attention=tuple(kind.startswith("CrossAttn") for kind in UNET["down_block_types"]),
    num_heads=UNET["attention_head_dim"],
    cross_attention_dim=UNET["cross_attention_dim"],
)

PREDICTION = {"epsilon": ModelType.EPS, "v_prediction": ModelType.V_PREDICTION}


def load_tiny_model() -> ModelPatcher:
    """The text-to-video base: UNet with its motion module applied."""
    return apply_motion(load_tiny_unet(), load_in_host(MOTION_MODULE, weights_file("motion_module")), 1.0, "auto")


def load_tiny_unet(disable_dynamic: bool = False) -> ModelPatcher:
    """The UNet alone. ``disable_dynamic`` is as in `..bindings.comfy.weights.as_patcher`."""
    weights, prediction = load_file(weights_file("unet")), PREDICTION[NOISE_SCHEDULE["prediction_type"]]
    return can_be_loaded_again(build_unet(TINY_UNET, weights, prediction, disable_dynamic), load_tiny_unet)


def load_tiny_adapter() -> ModelPatcher:
    """The I2V adapter that was trained on the tiny base."""
    return load_in_host(I2V_ADAPTER, weights_file("i2v_adapter"))


def load_tiny_retention() -> ModelPatcher:
    """The frame retention branch that was trained on the tiny base."""
    return load_in_host(RETENTION, weights_file("retention"))


def load_tiny_clip() -> comfy.sd.CLIP:
    """The text encoder, with the host's CLIP tokenizer."""
    clip = comfy.sd.CLIP(ClipTarget(SD1Tokenizer, SD1ClipModel), model_options={"clip_l_model_config": TEXT_ENCODER})
    clip.load_sd(expand(load_file(weights_file("text_encoder"))))
    return clip


def load_tiny_vae() -> comfy.sd.VAE:
    """The autoencoder, as the host's TAESD. Its scale turns the UNet's latents into the host's and back."""
    weights = {_taesd_key(key): weight for key, weight in load_file(weights_file("autoencoder")).items()}
    return comfy.sd.VAE(sd=weights | {"vae_scale": torch.tensor(LATENT_SCALE), "vae_shift": torch.tensor(0.0)})


def _taesd_key(key: str) -> str:
    """diffusers' name of a weight to the host's, whose decoder counts its clamp as layer 0."""
    half, _, layer, rest = key.split(".", 3)
    return f"taesd_{half}.{int(layer) + (half == 'decoder')}.{rest}"
