"""Image tokens: the content adapter (IP-Adapter) that the official I2V-Adapter runs beside its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from torch import Tensor, nn

from ..sites import Site
from .attention import AttentionFunction, scaled_dot_product_attention


class ImageTokenAttention(nn.Module):
    """Decoupled cross-attention (IP-Adapter, arXiv 2308.06721, Equation 5).

    ``Attn(Q, T W_K', T W_V')`` with the query of the base's text cross-attention, to be added before
    the base's own output projection.
    """

    def __init__(
        self,
        channels: int,
        token_dim: int,
        num_heads: int,
        operations: Any = nn,
        attention: AttentionFunction = scaled_dot_product_attention,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention = attention
        self.to_k_ip = operations.Linear(token_dim, channels, bias=False)
        self.to_v_ip = operations.Linear(token_dim, channels, bias=False)

    def forward(self, query: Tensor, tokens: Tensor) -> Tensor:
        """``query`` (B, N, C) and image ``tokens`` (B, M, D) to (B, N, C)."""
        return self.attention(query, self.to_k_ip(tokens), self.to_v_ip(tokens), self.num_heads)


class ImageTokenAdapter(nn.Module):
    """An :class:`ImageTokenAttention` per site, for ``num_tokens`` tokens of width ``token_dim``."""

    def __init__(
        self,
        sites: Mapping[Site, int],
        token_dim: int,
        num_heads: int,
        num_tokens: int = 16,
        operations: Any = nn,
        attention: AttentionFunction = scaled_dot_product_attention,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.num_tokens = num_tokens
        self.token_dim = token_dim
        self.widths = dict(sites)
        self.sites = nn.ModuleDict(
            {
                site.key: ImageTokenAttention(width, token_dim, num_heads, operations, attention)
                for site, width in sites.items()
            }
        )

    def __getitem__(self, site: Site) -> ImageTokenAttention:
        return cast(ImageTokenAttention, self.sites[site.key])

    def __contains__(self, site: object) -> bool:
        return site in self.widths

    def __iter__(self) -> Iterator[Site]:
        return iter(self.widths)
