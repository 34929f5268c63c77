"""CLIP's image encoder in transformers' class, from a file's tensors, and what it sees in an image."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from transformers import CLIPVisionConfig, CLIPVisionModel

from ...clips.reference import ImageFeatures
from ...errors import WeightsError
from ...weights.files import load_state_dict
from .filling import fill

HEADS = {768: 12}
MOST_HEADS = 16
"""ViT-B has 12 heads, all larger ones have 16."""
GELU_WIDTH = 1280
"""ViT-H was trained with the exact GELU, the smaller ones with CLIP's quick one."""
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
PENULTIMATE = -2


def load_vision(path: Path | str) -> CLIPVisionModel:
    """The image encoder in a file in transformers' names, for example ViT-H as IP-Adapter publishes it, in fp32.

    Raises:
        WeightsError: there is none in it.
    """
    state = load_state_dict(path)
    state = {name.removeprefix("vision_model."): tensor for name, tensor in state.items()}
    patches = state.get("embeddings.patch_embedding.weight")
    if patches is None:
        raise WeightsError(f"{path}: there is no CLIP image encoder in it; the content adapter needs CLIP ViT-H")
    width, positions = state["embeddings.position_embedding.weight"].shape[1], patches.shape[-1]
    config = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=state["encoder.layers.0.mlp.fc1.weight"].shape[0],
        num_hidden_layers=len({name.split(".")[2] for name in state if name.startswith("encoder.layers.")}),
        num_attention_heads=HEADS.get(width, MOST_HEADS),
        patch_size=positions,
        image_size=positions * int((len(state["embeddings.position_embedding.weight"]) - 1) ** 0.5),
        hidden_act="gelu" if width >= GELU_WIDTH else "quick_gelu",
    )
    with torch.device("meta"):
        model = CLIPVisionModel(config)
    prefix = "vision_model." if next(iter(model.state_dict())).startswith("vision_model.") else ""
    fill(model, {prefix + name: tensor for name, tensor in state.items()}, "image encoder")
    for module in model.modules():  # which has no weights, so that no file has it
        if hasattr(module, "position_ids"):
            module.position_ids = torch.arange(module.num_positions)[None]
    return model.float().eval().requires_grad_(False)


@torch.no_grad()
def see(encoder: CLIPVisionModel, image: Tensor) -> ImageFeatures:
    """The penultimate hidden states of an image (1, 3, H, W) in [0, 1], its middle square, and of no image.

    "No image" is all zeros where the encoder takes its pixels, as IP-Adapter was trained (arXiv 2308.06721, 3.3).
    """
    pixels = clip_pixels(image.float(), encoder.config.image_size).to(encoder.device, encoder.dtype)
    both = torch.cat([pixels, torch.zeros_like(pixels)])
    states: Tensor = encoder(both, output_hidden_states=True).hidden_states[PENULTIMATE]
    return ImageFeatures(*states.chunk(2))


def clip_pixels(image: Tensor, size: int) -> Tensor:
    """The middle square of images (B, 3, H, W) as CLIP takes it, rounded to 8 bits as the host does."""
    height, width = image.shape[-2:]
    if (height, width) != (size, size):
        scale = size / min(height, width)
        scaled = (round(scale * height), round(scale * width))
        image = functional.interpolate(image, scaled, mode="bicubic", antialias=True)
        top, left = ((side - size) // 2 for side in image.shape[-2:])
        image = image[..., top : top + size, left : left + size]
    rounded = (255 * image).clamp(0, 255).round() / 255
    return (rounded - _channels(MEAN, rounded)) / _channels(STD, rounded)


def _channels(values: tuple[float, ...], like: Tensor) -> Tensor:
    return torch.tensor(values, device=like.device).view(3, 1, 1)
