"""What the tiny model will not do well, said before it runs."""

from __future__ import annotations

from .config import SIZE
from .text import unknown_words, vocabulary

MANY_TIMES = 4
"""From so many times the pixels of the model's own size on, or from a fourth of them down, a size is announced."""


def about_words(prompt: str) -> str | None:
    """Which words of a prompt the model does not know, and which ones it knows; None where it knows all."""
    unknown = unknown_words(prompt)
    if not unknown:
        return None
    known = ", ".join(word for word in vocabulary() if word.isalpha())
    return f"the tiny model does not know, and ignores: {', '.join(unknown)}. It knows: {known}"


def about_size(width: int, height: int) -> str | None:
    """That a size in pixels is far from the one that the model was trained at; None where it is not."""
    times = width * height / SIZE**2
    if 1 / MANY_TIMES < times < MANY_TIMES:
        return None
    said = f"{width} x {height} is {times:.3g} times the pixels that the tiny model was trained at ({SIZE} x {SIZE})"
    return f"{said}; on a CPU a clip will take minutes" if times > 1 else f"{said}; little of the image will be left"
