"""Named places in the UNet, and their names in diffusers and in the LDM code that ComfyUI uses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from .errors import FirstFrameError, ModelMismatchError

Stage = Literal["down", "mid", "up"]
LDMStage = Literal["input", "middle", "output"]
DiffusersKind = Literal["attentions", "motion_modules", "resnets"]

_KEY = re.compile(r"(down|mid|up)_(0|[1-9][0-9]?)_(0|[1-9][0-9]?)")


@dataclass(frozen=True, order=True)
class Site:
    """Layer ``layer`` of block ``block`` in one half of the UNet, counted as diffusers counts them.

    Down blocks are counted from the outside in, up blocks from the inside out. The middle has the one
    site ``Site("mid", 0, 0)``.
    """

    stage: Stage
    block: int
    layer: int

    @property
    def key(self) -> str:
        """The name in state dicts, for example ``"down_0_1"``."""
        return f"{self.stage}_{self.block}_{self.layer}"

    @classmethod
    def from_key(cls, key: str) -> Site:
        """The inverse of `key`; another text is a FirstFrameError."""
        match = _KEY.fullmatch(key)
        if match is None:
            raise FirstFrameError(f"{key!r} names no place in a UNet; expected a name such as 'down_0_1'")
        stage, block, layer = match.groups()
        return cls(stage, int(block), int(layer))  # type: ignore[arg-type]

    def diffusers(self, kind: DiffusersKind) -> str:
        """The module path in diffusers, for example ``"down_blocks.0.attentions.1"``."""
        block = "mid_block" if self.stage == "mid" else f"{self.stage}_blocks.{self.block}"
        return f"{block}.{kind}.{self.layer}"

    def ldm(self, layers_per_block: int) -> tuple[LDMStage, int]:
        """The block in LDM naming: ``("input", 4)`` means ``input_blocks.4``."""
        if self.stage == "mid":
            return "middle", 0
        index = (layers_per_block + 1) * self.block + self.layer
        return ("input", index + 1) if self.stage == "down" else ("output", index)

    @classmethod
    def from_ldm(cls, stage: LDMStage, index: int, layers_per_block: int) -> Site:
        """The inverse of `ldm`. ``index`` must be one that `ldm` can return."""
        if stage == "middle":
            return cls("mid", 0, 0)
        if stage == "input":
            return cls("down", *divmod(index - 1, layers_per_block + 1))
        return cls("up", *divmod(index, layers_per_block + 1))


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
    """What has to be known about a UNet to name its sites.

    ``attention`` says for each down level whether it has spatial transformers; the up levels mirror it
    and the middle always has one.
    """

    block_out_channels: tuple[int, ...]
    layers_per_block: int
    attention: tuple[bool, ...]
    num_heads: int
    cross_attention_dim: int
    in_channels: int = 4

    def motion_sites(self, mid: bool) -> dict[Site, int]:
        """Sites where a motion module can be, with their widths."""
        return motion_sites(self.block_out_channels, self.layers_per_block, mid)

    @property
    def attention_sites(self) -> dict[Site, int]:
        """Sites with a spatial transformer, with their widths."""
        has_attention = {"down": self.attention, "mid": (True,), "up": self.attention[::-1]}
        sites = self.motion_sites(mid=True).items()
        return {site: width for site, width in sites if has_attention[site.stage][site.block]}


SD15 = UNetConfig((320, 640, 1280, 1280), 2, (True, True, True, False), 8, 768)


def check_sites(part: str, wanted: Mapping[Site, int], available: Mapping[Site, int]) -> None:
    """ModelMismatchError unless each site of ``part`` (a name for the message) is in the UNet, as wide."""
    for site, width in wanted.items():
        if available.get(site) != width:
            found = f"is {available[site]} wide" if site in available else "has no such place"
            raise ModelMismatchError(
                f"the {part} was not made for this UNet: it is {width} wide at {site.key}, where the UNet "
                f"{found}. Load the Stable Diffusion 1.5 model (or the tiny model) that it belongs to"
            )
