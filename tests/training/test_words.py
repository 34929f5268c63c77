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


COLOURS, SHAPES = torch.tensor([1, 4]), torch.tensor([2, 5, 6])
APPEARANCE = WordDropout(EMPTY, UNKNOWN, (START, END), (COLOURS, SHAPES), drop_caption=0.0, drop_word=0.0)


def test_words_for_appearance_become_unknown_together() -> None:
    dropped = replace(APPEARANCE, drop_appearance=1.0)(CAPTION)
    assert dropped.tolist() == [[START, UNKNOWN, UNKNOWN, 3, END]]


def test_words_for_appearance_are_exchanged_within_their_group() -> None:
    torch.manual_seed(0)
    wrong = replace(APPEARANCE, wrong_appearance=1.0)(CAPTION.expand(200, -1))
    assert set(wrong[:, 1].tolist()) == {1, 4} and set(wrong[:, 2].tolist()) == {2, 5, 6}
    assert (wrong[:, 3] == 3).all() and (wrong[:, 0] == START).all() and (wrong[:, 4] == END).all()


def test_shares_of_unknown_and_wrong_appearance() -> None:
    torch.manual_seed(0)
    told = replace(APPEARANCE, drop_appearance=0.4, wrong_appearance=0.2)(CAPTION.expand(4000, -1))
    assert 1450 < (told[:, 1] == UNKNOWN).sum() < 1750
    assert 330 < (told[:, 1] == 4).sum() < 470  # half of the exchanged ones get their own colour again
