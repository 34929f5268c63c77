"""What a sampling needs in every step and makes in the first."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar

T = TypeVar("T")


class Once:
    """Values that are made when they are first asked for, and kept until the sampling ends."""

    def __init__(self) -> None:
        self._values: dict[Hashable, object] = {}

    def __call__(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of ``key``. The key holds everything that ``make`` depends on."""
        if key not in self._values:
            self._values[key] = make()
        return self._values[key]  # type: ignore[return-value]

    def __len__(self) -> int:
        return len(self._values)

    def clear(self, *_: object) -> None:
        """Forget all values; called at the end of a sampling."""
        self._values.clear()
