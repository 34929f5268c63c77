"""CLIP's text encoder in transformers' class, from a file's tensors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from ...errors import WeightsError
from .filling import fill

HEAD_WIDTH = 64
_PREFIXES = ("cond_stage_model.transformer.", "text_encoder.", "")


def text_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The text encoder's own tensors in a checkpoint, without prefixes (``encoder.layers.0...``).

    Raises:
        WeightsError: there is none, or another one than that of Stable Diffusion 1.5.
    """
    for prefix in _PREFIXES:
        for start in (f"{prefix}text_model.", prefix):
            if f"{start}embeddings.token_embedding.weight" in state:
                return {name.removeprefix(start): tensor for name, tensor in state.items() if name.startswith(start)}
    others = ("cond_stage_model.model.", "conditioner.embedders.")
    if any(name.startswith(others) for name in state):
        raise WeightsError("its text encoder is that of SD 2 or SDXL; a checkpoint of Stable Diffusion 1.5 is needed")
    raise WeightsError("there is no text encoder in it; use a checkpoint that has UNet, text encoder and VAE")


def build_text_encoder(state: Mapping[str, Tensor]) -> CLIPTextModel:
    """The text encoder of ``state`` as `text_tensors` returns it; its sizes are read off the shapes."""
    vocabulary, width = state["embeddings.token_embedding.weight"].shape
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=state["encoder.layers.0.mlp.fc1.weight"].shape[0],
        num_hidden_layers=len({name.split(".")[2] for name in state if name.startswith("encoder.layers.")}),
        num_attention_heads=width // HEAD_WIDTH,
        max_position_embeddings=state["embeddings.position_embedding.weight"].shape[0],
        hidden_act="quick_gelu",
        projection_dim=width,
    )
    return fill_text_encoder(config, state)


def fill_text_encoder(config: CLIPTextConfig, state: Mapping[str, Tensor]) -> CLIPTextModel:
    """A text encoder with the weights of ``state``, whose names may have the prefix ``text_model.`` or not.

    transformers dropped that prefix in version 5.
    """
    with torch.device("meta"):
        model = CLIPTextModel(config)
    bare = {name.removeprefix("text_model."): tensor for name, tensor in state.items()}
    prefix = "text_model." if next(iter(model.state_dict())).startswith("text_model.") else ""
    fill(model, {f"{prefix}{name}": tensor for name, tensor in bare.items()}, "text encoder")
    for module in model.modules():  # which has no weights, so that no file has it
        if hasattr(module, "position_ids"):
            module.position_ids = torch.arange(config.max_position_embeddings)[None]
    return model
