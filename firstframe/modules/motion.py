"""AnimateDiff's motion module (arXiv 2307.04725): attention over frames at every place of the image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, cast

import torch
from einops import rearrange
from torch import Tensor, nn

from ..errors import FramesError
from ..shapes import fold_frames, unfold_frames
from ..sites import Site, motion_sites
from .backend import TORCH, Backend
from .layers import GEGLU, NORM_GROUPS, zero_initialise
from .site_modules import SiteModules

BetasName = Literal["animatediff_sdxl", "sdxl"]


@dataclass(frozen=True)
class MotionConfig:
    """What a motion module is made for.

    ``mid``: a layer in the middle block too (v2). ``max_frames``: length of the positional encoding, 24 for v1
    and 32 for v2 and v3; None where there is none (AnimateLCM), so that any number of frames will do.
    ``pooled_unet_norms``: the UNet's ResBlock norms and final norm take their statistics over all frames (v1,
    Hotshot-XL); a binding does this. ``norm_over_frames``: the module's own GroupNorm takes them over all frames, as
    diffusers and AnimateDiff for SDXL do; AnimateDiff for Stable Diffusion 1.5 takes them per frame. ``betas``: name
    of the noise schedule that it was trained with (`betas`), AnimateDiff's for
    Stable Diffusion 1.5 if None.
    """

    block_out_channels: tuple[int, ...]
    layers_per_block: int
    mid: bool
    max_frames: int | None
    num_heads: int = 8
    pooled_unet_norms: bool = False
    norm_over_frames: bool = False
    betas: BetasName | None = None

    @property
    def sites(self) -> dict[Site, int]:
        """The sites of the module and their widths."""
        return motion_sites(self.block_out_channels, self.layers_per_block, self.mid)

    def check_frames(self, num_frames: int, part: str) -> None:
        """FramesError when ``part`` (a name for the message) has no positions for so many frames."""
        if self.max_frames is not None and num_frames > self.max_frames:
            raise FramesError(
                f"{num_frames} frames were asked for, but this {part} has positions for {self.max_frames}: "
                "use fewer frames, or a context window"
            )


def sinusoidal_positions(max_frames: int, channels: int) -> Tensor:
    """Positional encoding of frames, (1, max_frames, channels): sines at even channels, cosines at odd."""
    frame = torch.arange(max_frames).unsqueeze(1)
    frequency = torch.exp(torch.arange(0, channels, 2) * (-math.log(10000.0) / channels))
    positions = torch.zeros(1, max_frames, channels)
    positions[0, :, 0::2] = torch.sin(frame * frequency)
    positions[0, :, 1::2] = torch.cos(frame * frequency)
    return positions


class TemporalAttention(nn.Module):
    """Self-attention over the frames of one place, with positions added to its input unless ``max_frames`` is None."""

    pe: Tensor | None

    def __init__(self, channels: int, num_heads: int, max_frames: int | None, backend: Backend) -> None:
        super().__init__()
        operations = backend.operations
        self.num_heads = num_heads
        self.attention = backend.attention
        self.to_q = operations.Linear(channels, channels, bias=False)
        self.to_k = operations.Linear(channels, channels, bias=False)
        self.to_v = operations.Linear(channels, channels, bias=False)
        self.to_out = operations.Linear(channels, channels)
        self.register_buffer("pe", None if max_frames is None else sinusoidal_positions(max_frames, channels))

    def forward(self, x: Tensor, positions: Tensor | None = None) -> Tensor:
        """Normed states (B*H*W, F, C) of the frames at ``positions`` (F,) to a residual of the same shape."""
        if self.pe is not None:
            pe = self.pe[:, : x.shape[1]] if positions is None else self.pe.index_select(1, positions)
            x = x + pe.to(x)
        out: Tensor = self.to_out(self.attention(self.to_q(x), self.to_k(x), self.to_v(x), self.num_heads))
        return out


class GatedFeedForward(GEGLU):
    """GEGLU and back."""

    def __init__(self, channels: int, backend: Backend) -> None:
        super().__init__(channels, backend)
        self.out = backend.operations.Linear(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) to (..., C)."""
        out: Tensor = self.out(super().forward(x))
        return out


class TemporalTransformer(nn.Module):
    """One site of a motion module: two temporal self-attentions and a feed-forward."""

    def __init__(self, channels: int, config: MotionConfig, backend: Backend) -> None:
        super().__init__()
        operations = backend.operations
        self.norm_over_frames = config.norm_over_frames
        self.norm = operations.GroupNorm(NORM_GROUPS, channels, eps=1e-6)
        self.proj_in = operations.Linear(channels, channels)
        self.norms = nn.ModuleList(operations.LayerNorm(channels) for _ in range(2))
        self.attentions = nn.ModuleList(
            TemporalAttention(channels, config.num_heads, config.max_frames, backend) for _ in range(2)
        )
        self.ff_norm = operations.LayerNorm(channels)
        self.ff = GatedFeedForward(channels, backend)
        self.proj_out = operations.Linear(channels, channels)
        zero_initialise(self.proj_out)

    def _normed(self, x: Tensor) -> Tensor:
        if self.norm_over_frames:
            return cast(Tensor, self.norm(x))
        return unfold_frames(self.norm(fold_frames(x)), x.shape[2])

    def forward(self, x: Tensor, positions: Tensor | None = None) -> Tensor:
        """States (B, C, F, H, W) of the frames at ``positions`` (F,) to a residual of the same shape."""
        batch, _, _, height, width = x.shape
        states: Tensor = self.proj_in(rearrange(self._normed(x), "b c f h w -> (b h w) f c"))
        for norm, attention in zip(self.norms, self.attentions, strict=True):
            states = states + attention(norm(states), positions)
        states = states + self.ff(self.ff_norm(states))
        states = self.proj_out(states)
        return rearrange(states, "(b h w) f c -> b c f h w", b=batch, h=height, w=width)


class MotionModule(SiteModules[TemporalTransformer]):
    """A motion module: one `TemporalTransformer` for each site of ``config``.

    Keys of the state dict are ``sites.down_0_0.proj_in.weight`` and so on. The output projections start
    at zero, so an untrained module changes nothing.
    """

    def __init__(self, config: MotionConfig, backend: Backend = TORCH) -> None:
        super().__init__(config.sites, lambda _, width: TemporalTransformer(width, config, backend))
        self.config = config

    def check_frames(self, num_frames: int) -> None:
        """FramesError when the module has no positions for so many frames."""
        self.config.check_frames(num_frames, "motion module")

    def forward(self, site: Site, x: Tensor, scale: float = 1.0, positions: Tensor | None = None) -> Tensor:
        """``x`` plus ``scale`` times the temporal residual of ``site``; at scale 0 this is ``x`` itself.

        Args:
            site: one of the module's.
            x: states (B, C, F, H, W).
            scale: of the residual.
            positions: frame numbers (F,), integers from 0 to ``max_frames - 1``; None for 0 to F-1.

        Returns:
            (B, C, F, H, W).

        Raises:
            FramesError: more frames than the module has positions.
        """
        self.check_frames(x.shape[2])
        if scale == 0.0:
            return x
        residual: Tensor = self[site](x, positions)
        return x + (residual if scale == 1.0 else scale * residual)
