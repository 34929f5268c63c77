"""IP-Adapter Plus, the content adapter: image features become a few tokens, and every text attention reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from ..sites import Site
from .backend import TORCH, Backend
from .site_modules import SiteModules, heads_by_site


@dataclass(frozen=True)
class ResamplerConfig:
    """Sizes of a `Resampler`; the defaults are those of IP-Adapter Plus for Stable Diffusion 1.5.

    ``feature_dim``: of the image encoder's hidden states. ``token_dim``: of the text embeddings that the tokens
    stand beside. ``head_dim``: width of one attention head.
    """

    feature_dim: int = 1280
    width: int = 768
    token_dim: int = 768
    num_tokens: int = 16
    depth: int = 4
    head_dim: int = 64
    feed_forward: int = 4


class PerceiverAttention(nn.Module):
    """Attention of the tokens to the image's features and to each other (Perceiver Resampler, arXiv 2204.14198)."""

    def __init__(self, config: ResamplerConfig, backend: Backend) -> None:
        super().__init__()
        operations, width = backend.operations, config.width
        self.num_heads = width // config.head_dim
        self.attention = backend.attention
        self.norm1 = operations.LayerNorm(width)
        self.norm2 = operations.LayerNorm(width)
        self.to_q = operations.Linear(width, width, bias=False)
        self.to_kv = operations.Linear(width, 2 * width, bias=False)
        self.to_out = operations.Linear(width, width, bias=False)

    def forward(self, tokens: Tensor, features: Tensor) -> Tensor:
        """``tokens`` (B, M, C) and ``features`` (B, N, C) to a residual for the tokens."""
        tokens = self.norm2(tokens)
        key, value = self.to_kv(torch.cat([self.norm1(features), tokens], dim=1)).chunk(2, dim=-1)
        out: Tensor = self.to_out(self.attention(self.to_q(tokens), key, value, self.num_heads))
        return out


class Resampler(nn.Module):
    """IP-Adapter Plus's image projection: hidden states of a CLIP image encoder to ``num_tokens`` tokens.

    Keys of the state dict are those of the published files behind their prefix ``image_proj``.
    """

    def __init__(self, config: ResamplerConfig, backend: Backend = TORCH) -> None:
        super().__init__()
        self.config = config
        operations = backend.operations
        width, inside = config.width, config.feed_forward * config.width
        self.latents = nn.Parameter(torch.randn(1, config.num_tokens, width) / width**0.5)
        self.proj_in = operations.Linear(config.feature_dim, width)
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    PerceiverAttention(config, backend),
                    nn.Sequential(
                        operations.LayerNorm(width),
                        operations.Linear(width, inside, bias=False),
                        nn.GELU(),
                        operations.Linear(inside, width, bias=False),
                    ),
                ]
            )
            for _ in range(config.depth)
        )
        self.proj_out = operations.Linear(width, config.token_dim)
        self.norm_out = operations.LayerNorm(config.token_dim)

    def forward(self, features: Tensor) -> Tensor:
        """The encoder's penultimate hidden states (B, N, D) to tokens (B, M, token_dim)."""
        features = self.proj_in(features)
        tokens = self.latents.to(features).expand(len(features), -1, -1)
        for layer in self.layers:
            attend, feed_forward = cast(nn.ModuleList, layer)
            tokens = tokens + attend(tokens, features)
            tokens = tokens + feed_forward(tokens)
        out: Tensor = self.norm_out(self.proj_out(tokens))
        return out


class ImageTokenAttention(nn.Module):
    """Decoupled cross-attention (IP-Adapter, arXiv 2308.06721, Equation 5).

    ``Attn(Q, T W_K', T W_V')`` with the query of the base's text cross-attention, to be added before
    the base's own output projection.
    """

    def __init__(self, channels: int, token_dim: int, num_heads: int, backend: Backend = TORCH) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention = backend.attention
        self.to_k_ip = backend.operations.Linear(token_dim, channels, bias=False)
        self.to_v_ip = backend.operations.Linear(token_dim, channels, bias=False)

    def forward(self, query: Tensor, tokens: Tensor) -> Tensor:
        """``query`` (B, N, C) and image ``tokens`` (B, M, D) to (B, N, C)."""
        return self.attention(query, self.to_k_ip(tokens), self.to_v_ip(tokens), self.num_heads)


class ImageTokenAdapter(SiteModules[ImageTokenAttention]):
    """An `ImageTokenAttention` per site, for ``num_tokens`` tokens of width ``token_dim``.

    ``num_heads`` are those of every attention, or by site. They are kept as ``heads``.
    """

    def __init__(
        self,
        sites: Mapping[Site, int],
        token_dim: int,
        num_heads: int | Mapping[Site, int],
        num_tokens: int = 16,
        backend: Backend = TORCH,
    ) -> None:
        heads = heads_by_site(sites, num_heads)
        super().__init__(sites, lambda site, width: ImageTokenAttention(width, token_dim, heads[site], backend))
        self.heads = heads
        self.num_tokens = num_tokens
        self.token_dim = token_dim
