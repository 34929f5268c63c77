"""The tiny model inside the host: its own MODEL, CLIP and VAE, with the shipped weights."""

from __future__ import annotations

import logging
import re
from typing import Any

import comfy.sd
import torch
from comfy.model_base import ModelType
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
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
from .notices import about_size, about_words
from .text import expand

TINY_UNET = UNetConfig(
    block_out_channels=UNET["block_out_channels"],
    layers_per_block=UNET["layers_per_block"],
    attention=tuple(kind.startswith("CrossAttn") for kind in UNET["down_block_types"]),
    num_heads=UNET["attention_head_dim"],
    cross_attention_dim=UNET["cross_attention_dim"],
)

SIZE_KEY = "firstframe_tiny_size"
_WEIGHT = re.compile(r":[\d.]+\)")  # (word:1.2)
PREDICTION = {"epsilon": ModelType.EPS, "v_prediction": ModelType.V_PREDICTION}


def load_tiny_model() -> ModelPatcher:
    """The text-to-video base: UNet with its motion module applied. A size far from its own is announced."""
    motion = load_in_host(MOTION_MODULE, weights_file("motion_module"))
    model = apply_motion(load_tiny_unet(), motion, 1.0, "auto")
    model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, SIZE_KEY, _announce_size)
    return model


def _announce_size(executor: Any, noise: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    height, width = (8 * side for side in noise.shape[-2:])
    if notice := about_size(width, height):
        logging.warning("FirstFrame: %s", notice)
    return executor(noise, *args, **kwargs)


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


class TinyTokenizer(SD1Tokenizer):  # type: ignore[misc]
    """The host's tokenizer, which says what the tiny model does not know."""

    def tokenize_with_weights(self, text: str, *args: Any, **kwargs: Any) -> Any:
        """As the host's."""
        if notice := about_words(_WEIGHT.sub(")", text)):
            logging.warning("FirstFrame: %s", notice)
        return super().tokenize_with_weights(text, *args, **kwargs)


def load_tiny_clip() -> comfy.sd.CLIP:
    """The text encoder, with the host's CLIP tokenizer. Words that it does not know are announced."""
    clip = comfy.sd.CLIP(ClipTarget(TinyTokenizer, SD1ClipModel), model_options={"clip_l_model_config": TEXT_ENCODER})
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
