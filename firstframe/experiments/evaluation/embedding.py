"""CLIP's embeddings of images, with weights that the user gives."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from ...bindings.diffusers.vision import clip_pixels, load_vision
from ...weights.files import load_state_dict

PROJECTION = "visual_projection.weight"


class ClipEmbedding:
    """An image encoder and its projection, in transformers' names.

    Args:
        path: for example CLIP ViT-L/14's ``model.safetensors``, or ``image_encoder/model.safetensors`` of IP-Adapter.
        device: where it is computed.

    Raises:
        WeightsError: there is no image encoder in the file.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        self.encoder = load_vision(path).to(device)
        projection = load_state_dict(path).get(PROJECTION)
        self.projection = None if projection is None else projection.float().to(device)
        config = self.encoder.config
        self.name = f"CLIP ViT, {config.num_hidden_layers} layers, patches of {config.patch_size} ({path.name})"

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Images (B, H, W, 3), uint8 or floats in [0, 1], to embeddings (B, D) of length 1 on the CPU."""
        unit = images.float() / 255 if images.dtype == torch.uint8 else images.float()
        pixels = clip_pixels(unit.movedim(-1, 1), self.encoder.config.image_size).to(self.encoder.device)
        pooled: Tensor = self.encoder(pixels).pooler_output
        embedded = pooled if self.projection is None else pooled @ self.projection.T
        return functional.normalize(embedded, dim=-1).cpu()
