"""I2V-Adapter (arXiv 2312.16693): a cross-frame attention beside each spatial self-attention of the UNet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from ..sites import Site
from .backend import TORCH, Backend
from .layers import zero_initialise
from .site_modules import SiteModules, heads_by_site


class CrossFrameAttention(nn.Module):
    """The trainable half of cross-frame attention (I2V-Adapter, arXiv 2312.16693, Equations 5 and 6).

    ``Attn(X_i W_Q', K_1, V_1) W_O'`` for every frame ``i``: ``K_1``, ``V_1`` are the base model's own
    projections of frame 1. The output projection starts at zero, so an untrained one adds nothing.

    With ``own_projections``, ``K_1`` and ``V_1`` come from projections of its own in place of the base's. The paper
    has none; some adapters that were trained elsewhere do.
    """

    def __init__(self, channels: int, num_heads: int, backend: Backend = TORCH, own_projections: bool = False) -> None:
        super().__init__()
        linear = backend.operations.Linear
        self.num_heads = num_heads
        self.attention = backend.attention
        self.own_projections = own_projections
        self.to_q = linear(channels, channels, bias=False)
        if own_projections:
            self.to_k = linear(channels, channels, bias=False)
            self.to_v = linear(channels, channels, bias=False)
        self.to_out = linear(channels, channels)
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


class I2VAdapter(SiteModules[CrossFrameAttention]):
    """I2V-Adapter (arXiv 2312.16693): a `CrossFrameAttention` per site.

    Keys of the state dict are ``sites.down_0_0.to_q.weight`` and so on.

    Attributes:
        heads: how many attention heads there are at each site.
    """

    def __init__(
        self,
        sites: Mapping[Site, int],
        num_heads: int | Mapping[Site, int],
        backend: Backend = TORCH,
        own_projections: bool = False,
    ) -> None:
        """Build an adapter.

        Args:
            sites: widths by site, for example ``SD15.attention_sites``.
            num_heads: of every attention, or by site, for example ``SDXL.heads``.
            backend: what it is made of.
            own_projections: whether it has keys and values of its own; see `CrossFrameAttention`.
        """
        heads = heads_by_site(sites, num_heads)
        super().__init__(sites, lambda site, width: CrossFrameAttention(width, heads[site], backend, own_projections))
        self.heads = heads
        self.own_projections = own_projections

    def copy_queries(self, base_query: Callable[[Site], Tensor]) -> None:
        """Initialise for training: every ``W_Q'`` from ``base_query(site)`` (C, C), every ``W_O'`` zero."""
        for site in self:
            self[site].copy_query(base_query(site))

    def forward(self, site: Site, x: Tensor, key0: Tensor, value0: Tensor, scale: float = 1.0) -> Tensor:
        """The residual at ``site``: ``x`` (B, F, N, C), ``key0`` and ``value0`` (B, N, C) to (B, F, N, C)."""
        residual: Tensor = self[site](x, key0, value0)
        return residual if scale == 1.0 else scale * residual
