"""Words left out of captions."""

from __future__ import annotations

from dataclasses import replace

import torch

from firstframe.training.words import WordDropout

START, END, UNKNOWN = 7, 8, 9
EMPTY = torch.tensor([[START, END, END, END, END]])
CAPTION = torch.tensor([[START, 1, 2, 3, END]])
ALL_WORDS = WordDropout(EMPTY, UNKNOWN, (START, END), drop_caption=0.0, drop_word=1.0)


def test_dropped_words_become_unknown_and_the_ends_stay() -> None:
    assert ALL_WORDS(CAPTION).tolist() == [[START, UNKNOWN, UNKNOWN, UNKNOWN, END]]


def test_a_dropped_caption_is_empty() -> None:
    assert torch.equal(replace(ALL_WORDS, drop_caption=1.0)(CAPTION), EMPTY)


def test_a_share_is_dropped() -> None:
    torch.manual_seed(0)
    dropped = WordDropout(EMPTY, UNKNOWN, (START, END))(CAPTION.expand(4000, -1))
    empty = (dropped == EMPTY).all(1)
    assert 300 < empty.sum() < 500
    assert 0.02 < (dropped[~empty][:, 1:4] == UNKNOWN).float().mean() < 0.04
