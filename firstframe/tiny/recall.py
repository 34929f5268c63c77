"""A text encoder that remembers its caption in each of its states: the losses that teach it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from ..training.data import ClipBatch
from ..training.losses import VideoLoss
from ..training.words import WordDropout
from .config import TEXT_ENCODER
from .denoiser import Denoiser
from .scenes import COLOURS, SHAPES
from .text import caption_ends, known_tokens, tokenize

RECALL_WEIGHT = 0.5
RECALLED_WORDS = 10


class Recall(nn.Linear):
    """Reads a caption's first words off each of the text encoder's states behind it; thrown away after training.

    Where most of 77 states are padding, a word that only its own state knows is hardly heard: directions moved
    nothing in the image until the padding had to know them.
    """

    def __init__(self) -> None:
        super().__init__(TEXT_ENCODER["hidden_size"], RECALLED_WORDS * (len(known_tokens()) + 1))

    def loss(self, states: Tensor, tokens: Tensor) -> Tensor:
        """Cross-entropy of the words, from states (B, 77, D) of token ids (B, 77)."""
        behind = states[:, RECALLED_WORDS + 1 :]
        guesses = rearrange(self(behind), "b n (w v) -> b v n w", w=RECALLED_WORDS)
        words = tokens[:, None, 1 : RECALLED_WORDS + 1].expand(-1, behind.shape[1], -1)
        return functional.cross_entropy(guesses.float(), words)


def tiny_word_dropout(device: torch.device, drop_appearance: float = 0.0, wrong_appearance: float = 0.0) -> WordDropout:
    """For captions of the tiny model's words, of which those for colour and shape are words for appearance."""
    groups = (tokenize([" ".join(words)])[0, 1 : len(words) + 1].to(device) for words in (COLOURS, SHAPES))
    return WordDropout(
        tokenize([""]).to(device),
        len(known_tokens()),
        caption_ends(),
        tuple(groups),
        drop_appearance=drop_appearance,
        wrong_appearance=wrong_appearance,
    )


@dataclass(frozen=True)
class CaptionLoss:
    """How badly captions (B, 77) are remembered by a model with a part "recall"; the UNet is not asked."""

    drop_words: Callable[[Tensor], Tensor]

    def __call__(self, model: Denoiser, tokens: Tensor) -> Tensor:
        return _recall_loss(model, self.drop_words(tokens))


@dataclass(frozen=True)
class RecallingLoss:
    """The loss of a video model, and that of its part "recall" on the same captions."""

    video: VideoLoss

    def __call__(self, model: Denoiser, batch: ClipBatch) -> Tensor:
        tokens = self.video.drop_words(batch.tokens)
        return self.video.of_words(model, batch, tokens) + RECALL_WEIGHT * _recall_loss(model, tokens)


def _recall_loss(model: Denoiser, tokens: Tensor) -> Tensor:
    return cast(Recall, model.parts["recall"]).loss(model.encode_text(tokens), tokens)
