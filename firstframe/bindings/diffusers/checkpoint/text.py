"""CLIP's text encoder out of a checkpoint: prompts to text states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from ....errors import WeightsError
from .tokenizer import clip_tokenizer

PREFIXES = ("cond_stage_model.transformer.text_model.", "cond_stage_model.transformer.", "text_model.")
EMBEDDING, POSITIONS = "embeddings.token_embedding.weight", "embeddings.position_embedding.weight"
HEAD_WIDTH = 64


@dataclass(frozen=True)
class TextEncoder:
    """CLIP's text model with its tokenizer."""

    model: CLIPTextModel

    @torch.inference_mode()
    def __call__(self, prompts: Sequence[str]) -> Tensor:
        """Prompts to text states (B, 77, D). What is longer than 75 tokens is cut off."""
        tokens = clip_tokenizer()(list(prompts), padding="max_length", truncation=True, return_tensors="pt").input_ids
        states: Tensor = self.model(tokens.to(self.model.device)).last_hidden_state
        return states


def load_text_encoder(state: Mapping[str, Tensor]) -> TextEncoder:
    """The text encoder among the tensors of a checkpoint; its sizes are read off their shapes.

    Raises:
        WeightsError: there is none.
    """
    prefix = next((prefix for prefix in PREFIXES if prefix + EMBEDDING in state), None)
    if prefix is None:
        raise WeightsError("there is no CLIP text encoder in it; give the whole checkpoint, not the UNet alone")
    weights = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    vocabulary, width = weights[EMBEDDING].shape
    layers = {name.split(".")[2] for name in weights if name.startswith("encoder.layers.")}
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=weights["encoder.layers.0.mlp.fc1.weight"].shape[0],
        num_hidden_layers=len(layers),
        num_attention_heads=width // HEAD_WIDTH,
        max_position_embeddings=weights[POSITIONS].shape[0],
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
    )
    with torch.device("meta"):
        model = CLIPTextModel(config)
    model = model.to_empty(device="cpu")
    named = {name: weights[name.removeprefix("text_model.")].float() for name, _ in model.named_parameters()}
    model.load_state_dict(named, strict=False)
    for name, buffer in model.named_buffers():  # token positions, which files need not have
        buffer.copy_(torch.arange(buffer.shape[-1]) if name.endswith("position_ids") else buffer)
    return TextEncoder(model.eval().requires_grad_(False))
