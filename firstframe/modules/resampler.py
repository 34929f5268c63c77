"""The resampler of IP-Adapter Plus: from what an image encoder saw to a few image tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from .attention import AttentionFunction, scaled_dot_product_attention


@dataclass(frozen=True)
class ResamplerConfig:
    """Sizes of a :class:`Resampler`; the defaults are those of IP-Adapter Plus for Stable Diffusion 1.5.

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
    """Tokens that look at the picture's features and at each other (Perceiver Resampler, arXiv 2204.14198)."""

    def __init__(self, config: ResamplerConfig, operations: Any, attention: AttentionFunction) -> None:
        super().__init__()
        width = config.width
        self.num_heads = width // config.head_dim
        self.attention = attention
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

    def __init__(
        self,
        config: ResamplerConfig,
        operations: Any = nn,
        attention: AttentionFunction = scaled_dot_product_attention,
    ) -> None:
        super().__init__()
        self.config = config
        width, inside = config.width, config.feed_forward * config.width
        self.latents = nn.Parameter(torch.randn(1, config.num_tokens, width) / width**0.5)
        self.proj_in = operations.Linear(config.feature_dim, width)
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    PerceiverAttention(config, operations, attention),
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
