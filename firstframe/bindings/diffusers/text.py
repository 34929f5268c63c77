"""CLIP's text encoders in transformers' classes, from a file's tensors, and what they make of prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import lcm
from typing import Any, TypeAlias, TypeVar

import torch
from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from ...errors import WeightsError
from ...modules.text import Text
from .clip_vocabulary import END, tokenize
from .filling import fill

TextEncoder: TypeAlias = "CLIPTextModel | CLIPTextModelWithProjection"

Encoder = TypeVar("Encoder", bound="TextEncoder")

HEAD_WIDTH = 64
PENULTIMATE = -2
_PREFIXES = ("conditioner.embedders.0.transformer.", "cond_stage_model.transformer.", "text_encoder.", "")
_OPEN_CLIP, _SECOND = "conditioner.embedders.1.model.", "text_encoder_2."
_PROJECTION = "text_projection.weight"
_TOKENS = "embeddings.token_embedding.weight"


def text_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of CLIP's text encoder in a checkpoint, without prefixes (``encoder.layers.0...``).

    Raises:
        WeightsError: there is none, or that of Stable Diffusion 2 alone.
    """
    for prefix in _PREFIXES:
        for start in (f"{prefix}text_model.", prefix):
            if f"{start}{_TOKENS}" in state:
                return {name.removeprefix(start): tensor for name, tensor in state.items() if name.startswith(start)}
    if any(name.startswith("cond_stage_model.model.") for name in state):
        raise WeightsError("its text encoder is that of SD 2; a checkpoint of Stable Diffusion 1.5 or SDXL is needed")
    raise WeightsError("there is no text encoder in it; use a checkpoint that has UNet, text encoder and VAE")


def second_text_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of SDXL's second text encoder, OpenCLIP's bigG, as `text_tensors` has those of the first.

    Raises:
        WeightsError: there is none.
    """
    if f"{_OPEN_CLIP}text_projection" in state:
        theirs = {name: tensor for name, tensor in state.items() if name.startswith(_OPEN_CLIP)}
        own = convert_open_clip_checkpoint(None, theirs, _OPEN_CLIP)
    else:
        own = {name.removeprefix(_SECOND): tensor for name, tensor in state.items() if name.startswith(_SECOND)}
    own = {name.removeprefix("text_model."): tensor for name, tensor in own.items()}
    if _TOKENS not in own or _PROJECTION not in own:
        raise WeightsError("SDXL's second text encoder is not in it; use a checkpoint that has both, UNet and VAE")
    return own


def build_text_encoder(state: Mapping[str, Tensor]) -> TextEncoder:
    """The text encoder of `text_tensors` or `second_text_tensors`; its sizes are read off the shapes."""
    vocabulary, width = state[_TOKENS].shape
    projection = state.get(_PROJECTION)
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=state["encoder.layers.0.mlp.fc1.weight"].shape[0],
        num_hidden_layers=len({name.split(".")[2] for name in state if name.startswith("encoder.layers.")}),
        num_attention_heads=width // HEAD_WIDTH,
        max_position_embeddings=state["embeddings.position_embedding.weight"].shape[0],
        hidden_act="quick_gelu" if projection is None else "gelu",
        projection_dim=width if projection is None else projection.shape[0],
        eos_token_id=END,
    )
    kind: Any = CLIPTextModel if projection is None else CLIPTextModelWithProjection
    built: TextEncoder = fill_text_encoder(kind, config, state)
    return built


def fill_text_encoder(kind: type[Encoder], config: CLIPTextConfig, state: Mapping[str, Tensor]) -> Encoder:
    """A text encoder with the weights of ``state``, whose names may have the prefix ``text_model.`` or not.

    transformers dropped that prefix in version 5, where the encoder has no projection.
    """
    with torch.device("meta"):
        model = kind(config)
    bare = {name.removeprefix("text_model."): tensor for name, tensor in state.items()}
    prefix = "text_model." if f"text_model.{_TOKENS}" in model.state_dict() else ""
    fill(model, {name if name == _PROJECTION else f"{prefix}{name}": t for name, t in bare.items()}, "text encoder")
    for module in model.modules():  # which has no weights, so that no file has it
        if hasattr(module, "position_ids"):
            module.position_ids = torch.arange(config.max_position_embeddings)[None]
    return model


@torch.no_grad()
def encode_prompts(encoders: Sequence[TextEncoder], prompts: Sequence[str]) -> Text:
    """Prompts as Stable Diffusion 1.5 reads them (one encoder) or SDXL (two).

    Their states have N = 77 tokens where no prompt has more than 75, else 77 for every 75 tokens; shorter prompts
    beside a longer one are repeated, which changes nothing. SDXL's are those of both encoders side by side.
    """
    each = [_encoded(encoders, prompt) for prompt in prompts]
    length = lcm(*(text.states.shape[1] for text in each))
    states = torch.cat([text.states.repeat(1, length // text.states.shape[1], 1) for text in each])
    pooled = [text.pooled for text in each if text.pooled is not None]
    return Text(states, torch.cat(pooled) if pooled else None)


def _encoded(encoders: Sequence[TextEncoder], prompt: str) -> Text:
    first, *second = encoders
    tokens = tokenize(prompt).to(first.device)
    if not second:
        return Text(_one_behind_the_other(first(tokens).last_hidden_state))
    padded = tokens.masked_fill((tokens == END).cumsum(1) > 1, 0)  # which OpenCLIP fills up with zeros
    found = second[0](padded, output_hidden_states=True)
    states = [first(tokens, output_hidden_states=True).hidden_states[PENULTIMATE], found.hidden_states[PENULTIMATE]]
    return Text(_one_behind_the_other(torch.cat(states, dim=-1)), found.text_embeds[:1])


def _one_behind_the_other(sections: Tensor) -> Tensor:
    """(S, 77, D) to (1, S * 77, D)."""
    return sections.flatten(0, 1)[None]
