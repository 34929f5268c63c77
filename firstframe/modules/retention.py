"""The frame retention branch (DreamVideo, arXiv 2312.03018): what the image says, as residuals for the UNet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from einops import repeat
from torch import Tensor, nn
from torch.nn import functional

from ..errors import FramesError, ModelMismatchError
from ..shapes import fold_frames, unfold_frames
from ..sites import Site, UNetConfig
from .backend import TORCH, Backend
from .layers import EmbeddingMLP, timestep_embedding, zero_initialise
from .motion import MotionConfig, MotionModule, TemporalTransformer
from .retention_layers import DownBlock, Stem

STEM_CHANNELS = (16, 32, 96, 256)


@dataclass(frozen=True)
class RetentionConfig:
    """What a branch is made for: a UNet, a motion module, and how wide the stem is.

    Attributes:
        stem_channels: widths of the stem's four levels, at the image's size and at a half, a quarter and an
            eighth of it. The last is the number of features that are concatenated to the latents.
        motion: of the temporal layers; its ``block_out_channels`` and ``layers_per_block`` are the UNet's.
    """

    unet: UNetConfig
    motion: MotionConfig
    stem_channels: tuple[int, ...] = STEM_CHANNELS

    @property
    def residual_channels(self) -> tuple[int, ...]:
        """Channels of each residual, in the order in which the UNet's down path stores its skip connections."""
        widths = self.unet.block_out_channels
        level = self.unet.layers_per_block + 1  # its layers and its downsampling, which the last level lacks
        return (widths[0], *(width for width in widths for _ in range(level)))[:-1]

    @property
    def down_sites(self) -> dict[Site, int]:
        """The sites of the UNet's down blocks, which the branch copies, with their widths."""
        return {site: width for site, width in self.unet.motion_sites(mid=False).items() if site.stage == "down"}

    def residual_elements(self, height: int, width: int) -> int:
        """Numbers in the residuals of one frame, for a latent of ``height`` and ``width``."""
        per_level = self.unet.layers_per_block + 1
        sizes = [(height, width)]
        for index in range(1, len(self.residual_channels)):
            halved = index % per_level == 0
            sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)) if halved else sizes[-1])
        return sum(c * h * w for c, (h, w) in zip(self.residual_channels, sizes, strict=True))


class RetentionBranch(nn.Module):
    """A trainable copy of a UNet's down blocks that sees the image's features beside the noisy latents.

    The features are concatenated to every frame's latents (the paper's text; its figure draws a sum). ResNet, self-,
    text and temporal attention follow as in the UNet; one projection for each skip connection, zero at the start,
    turns what comes out into a residual for the UNet's up blocks. So an untrained branch changes nothing.

    The state dict has diffusers' names for the UNet's part (``down_blocks.0.resnets.0.conv1.weight``), sites for the
    temporal layers (``temporal.down_0_0.proj_in.weight``), ``stem.`` and ``projections.0.weight`` and so on.
    """

    def __init__(self, config: RetentionConfig, backend: Backend = TORCH) -> None:
        super().__init__()
        self.config = config
        operations = backend.operations
        unet, widths = config.unet, config.unet.block_out_channels
        self.stem = Stem(config.stem_channels, backend)
        self.time_embedding = EmbeddingMLP(widths[0], 4 * widths[0], backend)
        if unet.pooled_channels is not None:
            self.add_embedding = EmbeddingMLP(unet.pooled_channels, 4 * widths[0], backend)
        self.conv_in = operations.Conv2d(unet.in_channels + config.stem_channels[-1], widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(DownBlock(unet, level, backend) for level in range(len(widths)))
        self.temporal = nn.ModuleDict(
            {
                site.key: TemporalTransformer(width, config.motion, backend)
                for site, width in config.motion.sites.items()
                if site.stage == "down"
            }
        )
        self.projections = nn.ModuleList(operations.Conv2d(c, c, 1) for c in config.residual_channels)
        for projection in self.projections:
            zero_initialise(projection)

    def copy_base(self, unet: Mapping[str, Tensor], motion: MotionModule) -> None:
        """Start training: every parameter that the base has is copied; the features' input channels are zero.

        Args:
            unet: the base UNet's weights under diffusers' names.
            motion: the base's motion module.

        Raises ModelMismatchError where the base lacks a parameter or has it in another shape.
        """
        temporal = {
            f"temporal.{name}": weight
            for name, weight in motion.sites.state_dict().items()
            if name.split(".")[0] in self.temporal
        }
        base = {**unet, **temporal}
        wanted = {
            name: weight for name, weight in self.state_dict().items() if not name.startswith(("stem.", "projections."))
        }
        with torch.no_grad():
            for name, weight in wanted.items():
                weight.copy_(self._widened(name, weight, base))

    def _widened(self, name: str, weight: Tensor, base: Mapping[str, Tensor]) -> Tensor:
        if name not in base:
            raise ModelMismatchError(f"the base has no {name}; a UNet like Stable Diffusion 1.5 or SDXL is needed")
        found = base[name]
        if name == "conv_in.weight":
            found = functional.pad(found, (0, 0, 0, 0, 0, weight.shape[1] - found.shape[1]))
        if found.shape != weight.shape:
            raise ModelMismatchError(f"{name} is {tuple(found.shape)} in the base, {tuple(weight.shape)} in the branch")
        return found

    def encode(self, image: Tensor) -> Tensor:
        """Images (B, 3, 8h, 8w) in [0, 1] to features (B, C, h, w); once for a whole sampling."""
        features: Tensor = self.stem(2.0 * image - 1.0)
        return features

    def forward(
        self,
        noisy: Tensor,
        timestep: Tensor,
        text: Tensor,
        features: Tensor,
        positions: Tensor | None = None,
        pooled: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """The residuals for one evaluation of the UNet.

        Args:
            noisy: what the UNet sees, (B, C, F, h, w).
            timestep: (B,), from 0 to 999.
            text: embeddings (B, N, D), or (B*F, N, D) with one for each frame.
            features: of the images, from `encode`, (B, C', h, w).
            positions: frame numbers (F,), integers from 0 to ``max_frames - 1``; None for 0 to F-1.
            pooled: SDXL's pooled text and embedded image sizes, (B, P); None for a UNet without.

        Returns:
            One residual (B*F, C, h', w') for each skip connection, in the UNet's order.

        Raises FramesError for more frames than the temporal layers have positions, or features of another size;
        ModelMismatchError where pooled text is missing.
        """
        num_frames = noisy.shape[2]
        self._check(noisy, features)
        images = repeat(features, "b c h w -> b c f h w", f=num_frames)
        x = self.conv_in(fold_frames(torch.cat([noisy, images.to(noisy)], dim=1)))
        time = self._time(timestep, pooled, num_frames, x.dtype)
        skips = [x]
        for level, block in enumerate(cast(list[DownBlock], list(self.down_blocks))):
            for layer in range(self.config.unet.layers_per_block):
                x = block.spatial(layer, x, time, text)
                x = self._move(Site("down", level, layer), x, num_frames, positions)
                skips.append(x)
            for downsample in block.downsamplers:
                x = downsample(x)
                skips.append(x)
        return tuple(project(skip) for project, skip in zip(self.projections, skips, strict=True))

    def _time(self, timestep: Tensor, pooled: Tensor | None, num_frames: int, dtype: torch.dtype) -> Tensor:
        """The embedding of timestep (B,) and pooled text (B, P) that the ResBlocks read, (B*F, T)."""
        unet = self.config.unet
        embedded = timestep_embedding(timestep.repeat_interleave(num_frames), unet.block_out_channels[0])
        time: Tensor = self.time_embedding(embedded.to(dtype))
        if unet.pooled_channels is None:
            return time
        if pooled is None or pooled.shape[1] != unet.pooled_channels:
            found = "none was given" if pooled is None else f"it has {pooled.shape[1]}"
            raise ModelMismatchError(
                f"the retention branch needs pooled text and sizes of {unet.pooled_channels} channels, and {found}: "
                "encode the prompt with the text encoders of an SDXL checkpoint"
            )
        added: Tensor = self.add_embedding(pooled.to(dtype))
        return time + added.repeat_interleave(num_frames, dim=0)

    def _move(self, site: Site, x: Tensor, num_frames: int, positions: Tensor | None) -> Tensor:
        return x + fold_frames(self.temporal[site.key](unfold_frames(x, num_frames), positions))

    def _check(self, noisy: Tensor, features: Tensor) -> None:
        self.config.motion.check_frames(noisy.shape[2], "retention branch")
        if features.shape[2:] != noisy.shape[3:]:
            sizes = [f"{8 * size[1]}x{8 * size[0]}" for size in (features.shape[2:], noisy.shape[3:])]
            raise FramesError(
                f"the reference is {sizes[0]} pixels, the sampled latent is {sizes[1]}: "
                "give both the same width and height"
            )
