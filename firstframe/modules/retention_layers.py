"""The layers of a frame retention branch: its stem, and the levels of the UNet's way down that it copies."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from ..sites import Site, UNetConfig
from .backend import Backend
from .layers import Downsampler, ResBlock, SpatialTransformer, TransformerShape


class Stem(nn.Module):
    """Convolutions on the image itself, down to the resolution of its latent."""

    def __init__(self, widths: tuple[int, ...], backend: Backend) -> None:
        super().__init__()
        operations = backend.operations
        self.conv_in = operations.Conv2d(3, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for narrow, wide in pairwise(widths):
            self.blocks.append(operations.Conv2d(narrow, narrow, 3, padding=1))
            self.blocks.append(operations.Conv2d(narrow, wide, 3, stride=2, padding=1))

    def forward(self, image: Tensor) -> Tensor:
        """Images (B, 3, 8h, 8w) in [-1, 1] to features (B, C, h, w)."""
        hidden: Tensor = functional.silu(self.conv_in(image))
        for block in self.blocks:
            hidden = functional.silu(block(hidden))
        return hidden


def _transformer(unet: UNetConfig, site: Site) -> TransformerShape | None:
    """The sizes of the spatial transformer at a layer; None where there is none."""
    if site not in unet.transformers:
        return None
    linear = unet.pooled_channels is not None  # SDXL
    return TransformerShape(unet.cross_attention_dim, unet.heads[site], unet.transformers[site], linear)


class DownBlock(nn.Module):
    """One level of the down path: layers of a ResBlock and, where the level has attention, a transformer."""

    def __init__(self, unet: UNetConfig, level: int, backend: Backend) -> None:
        super().__init__()
        widths, width = unet.block_out_channels, unet.block_out_channels[level]
        before = [widths[max(level - 1, 0)]] + [width] * (unet.layers_per_block - 1)
        self.resnets = nn.ModuleList(ResBlock(channels, width, 4 * widths[0], backend) for channels in before)
        transformers = [_transformer(unet, Site("down", level, layer)) for layer in range(len(before))]
        self.attentions = nn.ModuleList(
            SpatialTransformer(width, shape, backend) for shape in transformers if shape is not None
        )
        last = level == len(widths) - 1
        self.downsamplers = nn.ModuleList([] if last else [Downsampler(width, backend)])

    def spatial(self, layer: int, x: Tensor, time: Tensor, text: Tensor) -> Tensor:
        """Everything of a layer but its temporal part."""
        x = self.resnets[layer](x, time)
        if self.attentions:
            x = self.attentions[layer](x, text)
        return x
