"""What text encoders make of prompts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor


class Text(NamedTuple):
    """Encoded prompts.

    Attributes:
        states: of each token, (B, N, D).
        pooled: of each whole prompt, (B, P), which SDXL reads too; None for other models.
    """

    states: Tensor
    pooled: Tensor | None = None

    def to(self, *args: Any, **kwargs: Any) -> Text:
        """The same elsewhere, or in another type, as `torch.Tensor.to` takes it."""
        return self.map(lambda tensor: tensor.to(*args, **kwargs))

    def expand(self, count: int) -> Text:
        """One prompt (B = 1) as the prompt of ``count`` clips."""
        return self.map(lambda tensor: tensor.expand(count, *tensor.shape[1:]))

    def map(self, change: Callable[[Tensor], Tensor]) -> Text:
        """With every tensor changed."""
        return Text(change(self.states), None if self.pooled is None else change(self.pooled))
