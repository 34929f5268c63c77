"""Long work asks, now and then, whether it is still wanted. Who runs it says how: outside of a host it always is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


class Interrupt:
    """Asked between the parts of long work, several times a second.

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
