"""Prompts to tokens and tokens to text states for the tiny model.

The tiny text encoder is a CLIP text model that was trained on the words of rendered scenes only. Its token
embedding has a row for each of those words, for the start and the end of a prompt, and a last one that every
other token shares. ComfyUI, which brings CLIP's whole byte-pair vocabulary, gets the rows spread out over it
(`expand`). Outside ComfyUI a word that is not known counts as one token.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

START, END, LENGTH = 49406, 49407, 77
CLIP_VOCABULARY = 49408
EMBEDDING = "text_model.embeddings.token_embedding.weight"
_WORD = re.compile(r"[a-z]+|[0-9]|[^\sa-z0-9]+")


@cache
def vocabulary() -> dict[str, int]:
    """The words that the tiny model knows, with their CLIP token ids."""
    words: dict[str, int] = json.loads((Path(__file__).parent / "vocabulary.json").read_text("utf-8"))
    return words


@cache
def known_tokens() -> list[int]:
    """CLIP's ids of the tokens that have a row of their own, in the order of the rows."""
    return sorted([*vocabulary().values(), START, END])


def caption_ends() -> tuple[int, int]:
    """Rows of the embedding for a caption's start and end."""
    return known_tokens().index(START), known_tokens().index(END)


def tokenize(prompts: list[str]) -> Tensor:
    """Rows of the embedding, (B, 77), padded with the end token as Stable Diffusion 1.5 does."""
    row_of = {token: row for row, token in enumerate(known_tokens())}
    unknown = len(row_of)
    rows = []
    for prompt in prompts:
        words = _WORD.findall(prompt.lower())[: LENGTH - 2]
        spoken = [row_of.get(vocabulary().get(word, -1), unknown) for word in words]
        rows.append([row_of[START], *spoken, *[row_of[END]] * (LENGTH - 1 - len(words))])
    return torch.tensor(rows)


def unknown_words(prompt: str) -> list[str]:
    """The words of a prompt that the tiny model does not know, each once; punctuation is left out."""
    words = [word for word in _WORD.findall(prompt.lower()) if word.isalnum()]
    return [word for word in dict.fromkeys(words) if word not in vocabulary()]


def expand(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The text encoder's weights with an embedding for each of CLIP's 49,408 tokens."""
    rows = weights[EMBEDDING]
    full = rows[-1].repeat(CLIP_VOCABULARY, 1)
    full[known_tokens()] = rows[:-1]
    return {**weights, EMBEDDING: full}
