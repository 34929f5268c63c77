"""What the host's CLIP image encoder sees."""

from __future__ import annotations

import comfy.model_management
import torch
from comfy.clip_vision import ClipVisionModel
from torch import Tensor

from ...clips.reference import ImageFeatures


def encode_image(encoder: ClipVisionModel, pixels: Tensor) -> ImageFeatures:
    """The penultimate hidden states of an image (1, 3, H, W) in [0, 1], its middle square, and of no image.

    "No image" is all zeros where the encoder takes its pixels, behind the usual normalisation, as IP-Adapter was
    trained (arXiv 2308.06721, Section 3.3).
    """
    image: Tensor = encoder.encode_image(pixels.movedim(1, -1))["penultimate_hidden_states"]
    zeros = torch.zeros(1, 3, encoder.image_size, encoder.image_size, device=encoder.load_device)
    null: Tensor = encoder.model(pixel_values=zeros, intermediate_output=-2)[1]
    return ImageFeatures(image, null.to(comfy.model_management.intermediate_device()))
