"""What ends work early: errors, whose messages say what was wrong and what to do, and an interrupt of the host."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import isfinite
from typing import TypeVar

T = TypeVar("T")


class FirstFrameError(ValueError):
    """Anything that FirstFrame refuses."""


class WeightsError(FirstFrameError):
    """A weights file cannot be read, or does not hold what was asked for."""


class ImageError(FirstFrameError):
    """A reference image that cannot be used."""


class FramesError(FirstFrameError):
    """A number of frames that cannot be used."""


class ModelMismatchError(FirstFrameError):
    """Two parts that were not made for each other, for example an SD1.5 adapter and an SDXL model."""


class NotFiniteError(FirstFrameError):
    """A sampling whose values became NaN or infinite."""


class InjectionError(FirstFrameError):
    """Attaching to a model that already has something attached."""


def check_finite(name: str, number: float) -> None:
    """Raises FirstFrameError where a number is NaN or infinite; ``name`` is what the message calls it."""
    if not isfinite(number):
        raise FirstFrameError(f"{name} must be a finite number, got {number}")


def printable(text: str) -> str:
    """``text`` with every control, format and surrogate character written as its escape, line ends included.

    ``"\\x1b[2J"`` becomes the six characters ``\\x1b[2J``. Spaces and everything that has a glyph stay.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


class Interrupt:
    """Asked between the parts of long work, several times a second, whether it is still wanted.

    Attributes:
        check: raises where the work is to stop; a host sets it to its own.
    """

    def __init__(self) -> None:
        self.check: Callable[[], None] = lambda: None


INTERRUPT = Interrupt()


def still_wanted(parts: Iterable[T]) -> Iterator[T]:
    """The parts of long work, with the question before each."""
    for part in parts:
        INTERRUPT.check()
        yield part
