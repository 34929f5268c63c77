"""Named places in the UNet, and their names in diffusers and in the LDM code that ComfyUI uses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from .errors import FirstFrameError, ModelMismatchError

Stage = Literal["down", "mid", "up"]
LDMStage = Literal["input", "middle", "output"]
DiffusersKind = Literal["attentions", "motion_modules", "resnets", "temporal_attentions"]

SITE_KEY = r"(?:down|mid|up)(?:_(?:0|[1-9][0-9]?)){2}(?:_[1-9][0-9]?)?"
_KEY = re.compile(SITE_KEY)


@dataclass(frozen=True, order=True)
class Site:
    """Layer ``layer`` of block ``block`` in one half of the UNet, counted as diffusers counts them.

    Down blocks are counted from the outside in, up blocks from the inside out. The middle has the one layer
    ``Site("mid", 0, 0)``. Where a layer's spatial transformer has several transformer blocks (SDXL), ``depth`` is the
    block's number; elsewhere it is 0.
    """

    stage: Stage
    block: int
    layer: int
    depth: int = 0

    @property
    def key(self) -> str:
        """The name in state dicts, for example ``"down_0_1"``, or ``"down_1_0_1"`` for the second transformer block."""
        return f"{self.stage}_{self.block}_{self.layer}" + (f"_{self.depth}" if self.depth else "")

    @classmethod
    def from_key(cls, key: str) -> Site:
        """The inverse of `key`; another text is a FirstFrameError."""
        if _KEY.fullmatch(key) is None:
            raise FirstFrameError(f"{key!r} names no site of a UNet; expected a name such as 'down_0_1'")
        stage, *numbers = key.split("_")
        return cls(stage, *map(int, numbers))  # type: ignore[arg-type]

    def diffusers(self, kind: DiffusersKind) -> str:
        """The path of the layer's module in diffusers, for example ``"down_blocks.0.attentions.1"``."""
        block = "mid_block" if self.stage == "mid" else f"{self.stage}_blocks.{self.block}"
        return f"{block}.{kind}.{self.layer}"

    @property
    def diffusers_transformer(self) -> str:
        """The path of the transformer block, for example ``"down_blocks.0.attentions.1.transformer_blocks.0"``."""
        return f"{self.diffusers('attentions')}.transformer_blocks.{self.depth}"

    def ldm(self, layers_per_block: int) -> tuple[LDMStage, int]:
        """The block in LDM naming: ``("input", 4)`` means ``input_blocks.4``."""
        if self.stage == "mid":
            return "middle", 0
        index = (layers_per_block + 1) * self.block + self.layer
        return ("input", index + 1) if self.stage == "down" else ("output", index)

    @classmethod
    def from_ldm(cls, stage: LDMStage, index: int, layers_per_block: int, depth: int = 0) -> Site:
        """The inverse of `ldm`. ``index`` must be one that `ldm` can return; ``depth`` is as in Site."""
        if stage == "middle":
            return cls("mid", 0, 0, depth)
        if stage == "input":
            return cls("down", *divmod(index - 1, layers_per_block + 1), depth)
        return cls("up", *divmod(index, layers_per_block + 1), depth)


def motion_sites(block_out_channels: tuple[int, ...], layers_per_block: int, mid: bool) -> dict[Site, int]:
    """Every site of a UNet (with or without its middle) and its width, in the order data flows through."""
    levels = list(enumerate(block_out_channels))
    down = {Site("down", i, j): width for i, width in levels for j in range(layers_per_block)}
    middle = {Site("mid", 0, 0): block_out_channels[-1]} if mid else {}
    inside_out = enumerate(reversed(block_out_channels))
    up = {Site("up", i, j): width for i, width in inside_out for j in range(layers_per_block + 1)}
    return down | middle | up


@dataclass(frozen=True)
class UNetConfig:
    """What has to be known about a UNet to name its sites and to copy its layers.

    Attributes:
        block_out_channels: width of each level, from the outside in.
        layers_per_block: of each level on the way down; the way up has one more.
        attention: for each level whether its layers have a spatial transformer. The way up mirrors it; the middle
            always has one.
        num_heads: of every attention (Stable Diffusion 1.5); None where ``head_channels`` says how many there are.
        cross_attention_dim: width of the text embeddings.
        in_channels: of the latents.
        depths: transformer blocks of a spatial transformer at each level, one everywhere if None. The middle has as
            many as the last level.
        head_channels: width of one attention head at every level (SDXL).
        pooled_channels: width of the pooled text with the embedded image sizes (SDXL); None where the UNet has none.
    """

    block_out_channels: tuple[int, ...]
    layers_per_block: int
    attention: tuple[bool, ...]
    num_heads: int | None
    cross_attention_dim: int
    in_channels: int = 4
    depths: tuple[int, ...] | None = None
    head_channels: int | None = None
    pooled_channels: int | None = None

    def motion_sites(self, mid: bool) -> dict[Site, int]:
        """Sites where a motion module can be, with their widths."""
        return motion_sites(self.block_out_channels, self.layers_per_block, mid)

    @property
    def transformers(self) -> dict[Site, int]:
        """Layers with a spatial transformer, and how many transformer blocks it has."""
        blocks = [depth * has_one for depth, has_one in zip(self.depths_of_levels, self.attention, strict=True)]
        found = {"down": blocks, "mid": self.depths_of_levels[-1:], "up": blocks[::-1]}
        sites = {site: found[site.stage][site.block] for site in self.motion_sites(mid=True)}
        return {site: number for site, number in sites.items() if number}

    @property
    def attention_sites(self) -> dict[Site, int]:
        """Transformer blocks of the spatial transformers, with their widths."""
        widths = self.motion_sites(mid=True)
        return {
            replace(site, depth=depth): widths[site]
            for site, number in self.transformers.items()
            for depth in range(number)
        }

    @property
    def heads(self) -> dict[Site, int]:
        """How many attention heads each transformer block has."""
        return heads(self.attention_sites, self.num_heads, self.head_channels)

    @property
    def depths_of_levels(self) -> tuple[int, ...]:
        """:attr:`depths`, whether it is given or not."""
        return self.depths or (1,) * len(self.attention)


SD15 = UNetConfig((320, 640, 1280, 1280), 2, (True, True, True, False), 8, 768)
SDXL = UNetConfig(
    block_out_channels=(320, 640, 1280),
    layers_per_block=2,
    attention=(False, True, True),
    num_heads=None,
    cross_attention_dim=2048,
    depths=(1, 2, 10),
    head_channels=64,
    pooled_channels=2816,
)


def heads(widths: Mapping[Site, int], num_heads: int | None, head_channels: int | None) -> dict[Site, int]:
    """Attention heads by site: ``num_heads`` everywhere, or as many of ``head_channels`` as a width has.

    FirstFrameError unless one of the two is given.
    """
    if num_heads is not None:
        return dict.fromkeys(widths, num_heads)
    if head_channels is None:
        raise FirstFrameError("give the number of attention heads, or the width of one")
    return {site: width // head_channels for site, width in widths.items()}


def check_sites(part: str, wanted: Mapping[Site, int], available: Mapping[Site, int]) -> None:
    """ModelMismatchError unless each site of ``part`` (a name for the message) is in the UNet, as wide."""
    for site, width in wanted.items():
        if available.get(site) != width:
            found = f"is {available[site]} wide" if site in available else "has no such place"
            raise ModelMismatchError(
                f"the {part} was not made for this UNet: it is {width} wide at {site.key}, where the UNet "
                f"{found}. Use both for the same model: Stable Diffusion 1.5, SDXL or the tiny model"
            )
