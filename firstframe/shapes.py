"""Shapes of tensors, and the one place where frames are folded into the batch.

Legend used in every docstring:

    B  clips in a batch        C  channels          F  frames of a clip
    H  W  height and width (of a latent or a feature map)
    N  tokens (H*W of a feature map, or words of a prompt)
    D  width of a token

Inside the core a clip is ``(B, C, F, H, W)``; a UNet for images sees ``(B*F, C, H, W)``.
"""

from __future__ import annotations

from einops import rearrange
from torch import Tensor


def fold_frames(clip: Tensor) -> Tensor:
    """``(B, C, F, H, W)`` to ``(B*F, C, H, W)``: the frames of one clip stay next to each other."""
    return rearrange(clip, "b c f h w -> (b f) c h w")


def unfold_frames(images: Tensor, num_frames: int) -> Tensor:
    """``(B*F, C, H, W)`` to ``(B, C, F, H, W)``, the inverse of `fold_frames`."""
    return rearrange(images, "(b f) c h w -> b c f h w", f=num_frames)
