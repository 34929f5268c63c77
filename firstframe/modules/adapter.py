"""The I2V adapter: one cross-frame attention for each spatial self-attention of the UNet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from torch import Tensor, nn

from ..sites import Site
from .attention import AttentionFunction, CrossFrameAttention, scaled_dot_product_attention


class I2VAdapter(nn.Module):
    """I2V-Adapter (arXiv 2312.16693): a :class:`CrossFrameAttention` per site.

    ``sites`` maps each site to its width, for example ``SD15.attention_sites``. Keys of the state dict
    are ``sites.down_0_0.to_q.weight`` and so on.
    """

    def __init__(
        self,
        sites: Mapping[Site, int],
        num_heads: int,
        operations: Any = nn,
        attention: AttentionFunction = scaled_dot_product_attention,
        own_projections: bool = False,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.own_projections = own_projections
        self.widths = dict(sites)
        self.sites = nn.ModuleDict(
            {
                site.key: CrossFrameAttention(width, num_heads, operations, attention, own_projections)
                for site, width in sites.items()
            }
        )

    def __getitem__(self, site: Site) -> CrossFrameAttention:
        return cast(CrossFrameAttention, self.sites[site.key])

    def __contains__(self, site: object) -> bool:
        return site in self.widths

    def __iter__(self) -> Iterator[Site]:
        return iter(self.widths)

    def copy_queries(self, base_query: Callable[[Site], Tensor]) -> None:
        """Initialise for training: every ``W_Q'`` from ``base_query(site)`` (C, C), every ``W_O'`` zero."""
        for site in self:
            self[site].copy_query(base_query(site))

    def forward(self, site: Site, x: Tensor, key0: Tensor, value0: Tensor, scale: float = 1.0) -> Tensor:
        """The residual at ``site``: ``x`` (B, F, N, C), ``key0`` and ``value0`` (B, N, C) to (B, F, N, C)."""
        residual: Tensor = self[site](x, key0, value0)
        return residual if scale == 1.0 else scale * residual
