"""What is said before the tiny model runs."""

from __future__ import annotations

from firstframe.tiny.notices import about_size, about_words


def test_unknown_words_are_named_with_those_that_are_known() -> None:
    notice = about_words("a dog moves left")
    assert notice is not None and "ignores: dog. It knows: a, blue," in notice and "zoom" in notice
    assert about_words("a red fish moves left slowly, still camera") is None


def test_sizes_far_from_the_trained_one() -> None:
    assert "256 x 256 is 4 times the pixels" in (about_size(256, 256) or "")
    assert "64 x 64 is 0.25 times the pixels" in (about_size(64, 64) or "")
    assert about_size(128, 128) is None and about_size(160, 128) is None
