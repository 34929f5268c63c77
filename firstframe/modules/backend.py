"""What a host brings to the networks: its layers and its attention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

AttentionFunction = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""``(query (B, N, C), key (B, M, C), value (B, M, C), num_heads) -> (B, N, C)``."""


BATCH_LIMIT = 2**15
"""Batches of 65,536 and more crash PyTorch's fused kernels (its issues 142228 and 146704)."""


def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, num_heads: int) -> Tensor:
    """Multi-head attention by torch: query ``(B, N, C)``, key and value ``(B, M, C)`` to ``(B, N, C)``."""
    if len(query) > BATCH_LIMIT:
        parts = zip(*(torch.split(tokens, BATCH_LIMIT) for tokens in (query, key, value)), strict=True)
        return torch.cat([scaled_dot_product_attention(q, k, v, num_heads) for q, k, v in parts])
    query, key, value = (rearrange(t, "b n (h d) -> b h n d", h=num_heads) for t in (query, key, value))
    return rearrange(functional.scaled_dot_product_attention(query, key, value), "b h n d -> b n (h d)")


@dataclass(frozen=True)
class Backend:
    """The layers and the attention that the networks are built from.

    Attributes:
        operations: provides ``Linear``, ``Conv2d``, ``GroupNorm`` and ``LayerNorm`` as `torch.nn` does. A host's
            layers may create their weights only when a state dict is loaded.
        attention: computes multi-head attention.
    """

    operations: Any = nn
    attention: AttentionFunction = scaled_dot_product_attention


TORCH = Backend()
"""PyTorch's own layers and attention."""
