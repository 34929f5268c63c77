"""Gradient checkpointing: activations are forgotten and computed again for the gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from .precision import FullPrecisionAttention


@contextmanager
def recomputed(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Until the end, the activations within ``modules`` are not stored, at the cost of a second forward pass.

    Hooks of a module itself run outside of it, those of its layers twice.
    """
    changed = list(modules)
    for module in changed:
        vars(module)["forward"] = partial(_forward, module.forward)
    try:
        yield
    finally:
        for module in changed:
            del vars(module)["forward"]


def _forward(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    # dictionaries as they are now: the host tells in one and the same which layer it is at
    now: dict[str, Any] = {name: dict(value) if isinstance(value, dict) else value for name, value in kwargs.items()}
    given = [dict(value) if isinstance(value, dict) else value for value in args]
    return checkpoint(forward, *given, use_reentrant=False, context_fn=_contexts, **now)


def _contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """Around the first and the second forward pass."""
    return nullcontext(), FullPrecisionAttention.again()
