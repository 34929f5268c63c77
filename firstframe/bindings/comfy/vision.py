"""What the host's image encoders make of an image. They may be interrupted between two of their layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import comfy.model_management
import torch
from comfy.clip_vision import ClipVisionModel
from comfy.sd import VAE
from torch import Tensor, nn

from ...clips.reference import ImageFeatures, check_latent
from ...errors import INTERRUPT


def encode_latent(vae: VAE, pixels: Tensor) -> Tensor:
    """The latent (1, C, h, w) of an image (1, 3, H, W) in [0, 1]. Raises ImageError where it is not finite."""
    with _interruptible(getattr(vae, "first_stage_model", None)):  # other packs bring VAEs of their own
        return check_latent(vae.encode(pixels.movedim(1, -1)))


def encode_image(encoder: ClipVisionModel, pixels: Tensor) -> ImageFeatures:
    """The penultimate hidden states of an image (1, 3, H, W) in [0, 1], its middle square, and of no image.

    "No image" is all zeros where the encoder takes its pixels, behind the usual normalisation, as IP-Adapter was
    trained (arXiv 2308.06721, Section 3.3).
    """
    with _interruptible(encoder.model):
        image: Tensor = encoder.encode_image(pixels.movedim(1, -1))["penultimate_hidden_states"]
        zeros = torch.zeros(1, 3, encoder.image_size, encoder.image_size, device=encoder.load_device)
        null: Tensor = encoder.model(pixel_values=zeros, intermediate_output=-2)[1]
    return ImageFeatures(image, null.to(comfy.model_management.intermediate_device()))


@contextmanager
def _interruptible(network: nn.Module | None) -> Iterator[None]:
    """Ask before each layer whether the work is still wanted; the host asks before whole networks alone."""
    layers = () if network is None else network.modules()
    hooks = [layer.register_forward_pre_hook(lambda *_: INTERRUPT.check()) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
