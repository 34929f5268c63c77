"""Words left out of captions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class WordDropout:
    """Some captions become empty, for guidance, and some words unknown, so that unknown words do no harm.

    Attributes:
        empty: ids of the empty caption, (1, N), on the device of the captions.
        unknown: id of an unknown word.
        ends: ids of a caption's start and end, which stay.
        drop_caption, drop_word: shares, 0 to 1.
    """

    empty: Tensor
    unknown: int
    ends: tuple[int, int]
    drop_caption: float = 0.1
    drop_word: float = 0.03

    def __call__(self, tokens: Tensor) -> Tensor:
        """Token ids (B, N) to token ids (B, N)."""
        start, end = self.ends
        word = (tokens != start) & (tokens != end)
        dropped = word & (torch.rand(tokens.shape, device=tokens.device) < self.drop_word)
        tokens = tokens.masked_fill(dropped, self.unknown)
        emptied = torch.rand(len(tokens), 1, device=tokens.device) < self.drop_caption
        return torch.where(emptied, self.empty, tokens)
