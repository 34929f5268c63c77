"""Text of others on the user's terminal: what would steer the terminal is shown instead of obeyed."""

from __future__ import annotations


def printable(text: str) -> str:
    """``text`` with every control, format and surrogate character written as its escape, line ends included.

    ``"\\x1b[2J"`` becomes the six characters ``\\x1b[2J``. Spaces and everything that has a glyph stay.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
