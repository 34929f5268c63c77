"""The blocks of Stable Diffusion 1.5's and SDXL's UNets, with diffusers' names for their weights.

Here frames are in the batch, (B*F, C, H, W).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from .backend import Backend

NORM_GROUPS = 32
SIZE_CHANNELS = 256
SIZES_CHANNELS = 6 * SIZE_CHANNELS
"""SDXL is told six numbers beside the text: a size, a corner, a size."""


def zero_initialise(layer: Any) -> None:
    """Set weight and bias of ``layer`` to zero, so that it returns zero. A host may create them only on loading."""
    if layer.weight is not None:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)


def timestep_embedding(timestep: Tensor, channels: int) -> Tensor:
    """Timesteps (B,) to cosines, then sines (B, channels), fp32."""
    half = channels // 2
    frequency = torch.exp(torch.arange(half, device=timestep.device) * (-math.log(10000.0) / half))
    angle = timestep.float()[:, None] * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


def pooled_with_sizes(pooled: Tensor, sizes: Tensor) -> Tensor:
    """What SDXL's UNet embeds beside the timestep: pooled text (B, P) and image sizes (B, 6) to (B, P + 1536)."""
    embedded = timestep_embedding(sizes.flatten(), SIZE_CHANNELS).reshape(len(sizes), -1)
    return torch.cat([pooled, embedded.to(pooled)], dim=-1)


def whole_image(height: int, width: int, count: int, device: torch.device) -> Tensor:
    """The sizes (B, 6) of images that were neither scaled nor cropped: height, width, 0, 0, height, width, pixels."""
    return torch.tensor([[height, width, 0, 0, height, width]], dtype=torch.float32, device=device).expand(count, -1)


class EmbeddingMLP(nn.Module):
    """An embedding that the ResBlocks read: of the timestep, or of SDXL's pooled text and image sizes."""

    def __init__(self, channels: int, out_channels: int, backend: Backend) -> None:
        super().__init__()
        operations = backend.operations
        self.linear_1 = operations.Linear(channels, out_channels)
        self.linear_2 = operations.Linear(out_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels) to (B, out_channels)."""
        out: Tensor = self.linear_2(functional.silu(self.linear_1(x)))
        return out


class ResBlock(nn.Module):
    """Two convolutions beside a shortcut, shifted by the timestep."""

    def __init__(self, channels: int, out_channels: int, time_channels: int, backend: Backend) -> None:
        super().__init__()
        operations = backend.operations
        self.norm1 = operations.GroupNorm(NORM_GROUPS, channels, eps=1e-5)
        self.conv1 = operations.Conv2d(channels, out_channels, 3, padding=1)
        self.time_emb_proj = operations.Linear(time_channels, out_channels)
        self.norm2 = operations.GroupNorm(NORM_GROUPS, out_channels, eps=1e-5)
        self.conv2 = operations.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_shortcut = operations.Conv2d(channels, out_channels, 1) if channels != out_channels else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """(B*F, C, H, W) and the time embedding (B*F, T) to (B*F, C', H, W)."""
        hidden = self.conv1(functional.silu(self.norm1(x)))
        hidden = hidden + self.time_emb_proj(functional.silu(time))[:, :, None, None]
        out: Tensor = self.conv_shortcut(x) + self.conv2(functional.silu(self.norm2(hidden)))
        return out


class Attention(nn.Module):
    """Multi-head attention to oneself or to a context."""

    def __init__(self, channels: int, context_channels: int, num_heads: int, backend: Backend) -> None:
        super().__init__()
        operations = backend.operations
        self.num_heads, self.attention = num_heads, backend.attention
        self.to_q = operations.Linear(channels, channels, bias=False)
        self.to_k = operations.Linear(context_channels, channels, bias=False)
        self.to_v = operations.Linear(context_channels, channels, bias=False)
        self.to_out = nn.ModuleList([operations.Linear(channels, channels)])

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """x (R, N, C), context (R or R/F, M, D) to (R, N, C); a context may stand for all frames of a clip."""
        query = rearrange(x, "(b f) n c -> b (f n) c", b=len(context))
        attended = self.attention(self.to_q(query), self.to_k(context), self.to_v(context), self.num_heads)
        return rearrange(self.to_out[0](attended), "b (f n) c -> (b f) n c", n=x.shape[1])


class GEGLU(nn.Module):
    """Gated linear unit (arXiv 2002.05202)."""

    def __init__(self, channels: int, backend: Backend) -> None:
        super().__init__()
        self.proj = backend.operations.Linear(channels, 8 * channels)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) to (..., 4C)."""
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * functional.gelu(gate)


class FeedForward(nn.Module):
    """GEGLU and back."""

    def __init__(self, channels: int, backend: Backend) -> None:
        super().__init__()
        self.net = nn.ModuleList(
            [GEGLU(channels, backend), nn.Identity(), backend.operations.Linear(4 * channels, channels)]
        )

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) to (..., C)."""
        for layer in self.net:
            x = layer(x)
        return x


class TransformerBlock(nn.Module):
    """Self-attention, attention to the text, feed-forward."""

    def __init__(self, channels: int, context_channels: int, num_heads: int, backend: Backend) -> None:
        super().__init__()
        operations = backend.operations
        self.norm1 = operations.LayerNorm(channels)
        self.attn1 = Attention(channels, channels, num_heads, backend)
        self.norm2 = operations.LayerNorm(channels)
        self.attn2 = Attention(channels, context_channels, num_heads, backend)
        self.norm3 = operations.LayerNorm(channels)
        self.ff = FeedForward(channels, backend)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """x (B*F, N, C) and text (B*F or B, M, D) to (B*F, N, C)."""
        normed = self.norm1(x)
        x = x + self.attn1(normed, normed)
        x = x + self.attn2(self.norm2(x), text)
        x = x + self.ff(self.norm3(x))
        return x


@dataclass(frozen=True)
class TransformerShape:
    """Sizes of a `SpatialTransformer`, beside its width.

    Attributes:
        context_channels: of the text embeddings.
        num_heads: of every attention.
        depth: transformer blocks.
        linear: whether the projections around them are linear layers.
    """

    context_channels: int
    num_heads: int
    depth: int = 1
    linear: bool = False


class SpatialTransformer(nn.Module):
    """Transformer blocks over the positions of an image.

    The projections around them are convolutions of one pixel in Stable Diffusion 1.5, linear layers in SDXL.
    """

    def __init__(self, channels: int, shape: TransformerShape, backend: Backend) -> None:
        super().__init__()
        operations = backend.operations
        self.linear = shape.linear
        self.norm = operations.GroupNorm(NORM_GROUPS, channels, eps=1e-6)
        self.proj_in = self._projection(channels, operations)
        self.transformer_blocks = nn.ModuleList(
            TransformerBlock(channels, shape.context_channels, shape.num_heads, backend) for _ in range(shape.depth)
        )
        self.proj_out = self._projection(channels, operations)

    def _projection(self, channels: int, operations: Any) -> Any:
        return operations.Linear(channels, channels) if self.linear else operations.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """x (B*F, C, H, W) and text (B*F or B, M, D) to (B*F, C, H, W)."""
        height = x.shape[2]
        if self.linear:
            tokens = self.proj_in(rearrange(self.norm(x), "b c h w -> b (h w) c"))
        else:
            tokens = rearrange(self.proj_in(self.norm(x)), "b c h w -> b (h w) c")
        for block in self.transformer_blocks:
            tokens = block(tokens, text)
        if self.linear:
            return x + rearrange(self.proj_out(tokens), "b (h w) c -> b c h w", h=height)
        out: Tensor = x + self.proj_out(rearrange(tokens, "b (h w) c -> b c h w", h=height))
        return out


class Downsampler(nn.Module):
    """Half the height and width."""

    def __init__(self, channels: int, backend: Backend) -> None:
        super().__init__()
        self.conv = backend.operations.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B*F, C, H, W) to (B*F, C, H/2, W/2), odd sizes rounded up."""
        out: Tensor = self.conv(x)
        return out
