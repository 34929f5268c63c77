"""Words left out of captions, and words replaced by wrong ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class WordDropout:
    """Some captions become empty, for guidance, and some words unknown, so that unknown words do no harm.

    Words for what is seen in the first frame anyway can be left out more often than others, or be exchanged for wrong
    ones: a model that was trained on such captions believes the image.

    Attributes:
        empty: ids of the empty caption, (1, N), on the device of the captions.
        unknown: id of an unknown word.
        ends: ids of a caption's start and end, which stay.
        appearance: groups of ids that stand for one another, each (K,), on the device of the captions.
        drop_caption, drop_word: shares, 0 to 1.
        drop_appearance, wrong_appearance: shares of the captions whose words for appearance all become unknown, or
            random ones of their group.
    """

    empty: Tensor
    unknown: int
    ends: tuple[int, int]
    appearance: tuple[Tensor, ...] = ()
    drop_caption: float = 0.1
    drop_word: float = 0.03
    drop_appearance: float = 0.0
    wrong_appearance: float = 0.0

    def __call__(self, tokens: Tensor) -> Tensor:
        """Token ids (B, N) to token ids (B, N)."""
        start, end = self.ends
        word = (tokens != start) & (tokens != end)
        dropped = word & (torch.rand(tokens.shape, device=tokens.device) < self.drop_word)
        tokens = self._other_appearance(tokens).masked_fill(dropped, self.unknown)
        emptied = torch.rand(len(tokens), 1, device=tokens.device) < self.drop_caption
        return torch.where(emptied, self.empty, tokens)

    def _other_appearance(self, tokens: Tensor) -> Tensor:
        fate = torch.rand(len(tokens), 1, device=tokens.device)
        unknown, wrong = fate < self.drop_appearance, fate > 1 - self.wrong_appearance
        for group in self.appearance:
            of_group = (tokens[..., None] == group).any(-1)
            other = group[torch.randint(len(group), tokens.shape, device=tokens.device)]
            tokens = torch.where(of_group & wrong, other, tokens.masked_fill(of_group & unknown, self.unknown))
        return tokens
