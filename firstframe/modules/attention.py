"""Cross-frame attention: the first frame seen by every frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

AttentionFunction = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""``(query (B, N, C), key (B, M, C), value (B, M, C), num_heads) -> (B, N, C)``."""


def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, num_heads: int) -> Tensor:
    """Multi-head attention by torch: query ``(B, N, C)``, key and value ``(B, M, C)`` to ``(B, N, C)``."""
    query, key, value = (rearrange(t, "b n (h d) -> b h n d", h=num_heads) for t in (query, key, value))
    return rearrange(functional.scaled_dot_product_attention(query, key, value), "b h n d -> b n (h d)")


def zero_initialise(layer: Any) -> None:
    """Let ``layer`` (with weight and bias) answer zero. A host may create the weights only on loading."""
    if layer.weight is not None:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)


class CrossFrameAttention(nn.Module):
    """The trainable half of cross-frame attention (I2V-Adapter, arXiv 2312.16693, Equations 5 and 6).

    ``Attn(X_i W_Q', K_1, V_1) W_O'`` for every frame ``i``: ``K_1``, ``V_1`` are the base model's own
    projections of frame 1. The output projection starts at zero, so an untrained one adds nothing.

    ``operations`` provides ``Linear`` and ``attention`` computes the attention: seams for a host.
    ``own_projections``: ``K_1``, ``V_1`` by projections of its own in place of the base's. The paper has none;
    some adapters that were trained elsewhere do.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        operations: Any = nn,
        attention: AttentionFunction = scaled_dot_product_attention,
        own_projections: bool = False,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention = attention
        self.own_projections = own_projections
        self.to_q = operations.Linear(channels, channels, bias=False)
        if own_projections:
            self.to_k = operations.Linear(channels, channels, bias=False)
            self.to_v = operations.Linear(channels, channels, bias=False)
        self.to_out = operations.Linear(channels, channels)
        zero_initialise(self.to_out)

    def copy_query(self, weight: Tensor) -> None:
        """Start training: ``W_Q'`` from the base's ``W_Q`` (C, C), ``W_O'`` zero."""
        with torch.no_grad():
            self.to_q.weight.copy_(weight)
        zero_initialise(self.to_out)

    def project(self, x0: Tensor, base: Any) -> tuple[Tensor, Tensor]:
        """``K_1`` and ``V_1`` of the first frame's normed states ``x0`` (B, N, C), each (B, N, C).

        ``base`` is the self-attention that this one stands beside, with ``to_k`` and ``to_v``.
        """
        attention = self if self.own_projections else base
        return attention.to_k(x0), attention.to_v(x0)

    def forward(self, x: Tensor, key0: Tensor, value0: Tensor) -> Tensor:
        """Normed states ``x`` (B, F, N, C), ``key0`` and ``value0`` (B, N, C) to a residual (B, F, N, C)."""
        num_frames = x.shape[1]
        query = self.to_q(rearrange(x, "b f n c -> b (f n) c"))
        out: Tensor = self.to_out(self.attention(query, key0, value0, self.num_heads))
        return rearrange(out, "b (f n) c -> b f n c", f=num_frames)
