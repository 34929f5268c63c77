"""Families of weights files, told apart by the names of their tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from ..errors import WeightsError
from .keymaps import (
    ANIMATEDIFF,
    HOTSHOT,
    IP_ADAPTER,
    IP_ADAPTER_RESAMPLER,
    IP_ADAPTER_SDXL,
    MOTION_LORA,
    OFFICIAL_ADAPTER,
    OFFICIAL_IMAGE_TOKENS,
    UNOFFICIAL_ADAPTER,
    Names,
)

Kind = Literal["i2v_adapter", "motion_module", "motion_lora", "image_tokens", "resampler", "retention"]


@dataclass(frozen=True)
class Layout:
    """A family of files: it is one if any name in it matches ``signature`` from its beginning, and none ``without``.

    Where a file holds several of our own kinds, those names belong to this one that match ``members``.
    """

    name: str
    kind: Kind
    signature: str
    keymap: Names | None = None
    members: str = ""
    without: str = r"(?!)"

    def fires(self, names: Iterable[str]) -> bool:
        """Whether tensors of these names are in this layout."""
        names = list(names)
        return any(re.match(self.signature, name) for name in names) and not any(
            re.match(self.without, name) for name in names
        )

    def owns(self, name: str) -> bool:
        """Whether the tensor of this name belongs to this kind in a file of several."""
        return re.match(self.members, name) is not None


_TEMPORAL = r".*\.motion_modules\.\d+\.temporal_transformer\."
_BEYOND_SD15 = r"ip_adapter\.(?:3[3-9]|[4-9]\d|1\d\d)\.to_k_ip\."

LAYOUTS = (
    Layout("FirstFrame retention branch", "retention", r"projections\.\d+\.", members=r"(?!sites\.)"),
    Layout("FirstFrame I2V adapter", "i2v_adapter", r"sites\.\w+\.to_q\."),
    Layout("FirstFrame motion module", "motion_module", r"sites\.\w+\.proj_in\.", members=r"sites\."),
    Layout("FirstFrame image tokens", "image_tokens", r"sites\.\w+\.to_k_ip\.", members=r"sites\."),
    Layout("official I2V-Adapter", "i2v_adapter", r".*\.attn1\.to_q_ff\.", OFFICIAL_ADAPTER),
    Layout("unofficial I2V-Adapter", "i2v_adapter", r".*\.i2v_adapter\.to_q\.", UNOFFICIAL_ADAPTER),
    Layout("AnimateDiff", "motion_module", _TEMPORAL + r"proj_in\.", ANIMATEDIFF),
    Layout("Hotshot-XL", "motion_module", r".*\.temporal_attentions\.\d+\.proj_in\.", HOTSHOT),
    Layout("AnimateDiff motion LoRA", "motion_lora", _TEMPORAL + r".*\.processor\.to_\w+_lora\.", MOTION_LORA),
    Layout("official image tokens", "image_tokens", r".*\.attn2\.to_k_ip\.", OFFICIAL_IMAGE_TOKENS),
    Layout("IP-Adapter", "image_tokens", r"ip_adapter\.\d+\.to_k_ip\.", IP_ADAPTER, without=_BEYOND_SD15),
    Layout("IP-Adapter SDXL", "image_tokens", _BEYOND_SD15, IP_ADAPTER_SDXL),
    Layout("IP-Adapter Plus resampler", "resampler", r"image_proj\.latents$", IP_ADAPTER_RESAMPLER, r"image_proj\."),
)

_WANTED: dict[Kind, str] = {
    "i2v_adapter": "an I2V adapter",
    "motion_module": "a motion module",
    "motion_lora": "a motion LoRA",
    "image_tokens": "image token projections",
    "resampler": "the resampler of IP-Adapter Plus",
    "retention": "a frame retention branch",
}


def detect_layout(names: Iterable[str], kind: Kind) -> Layout:
    """The layout of ``kind`` that tensors of these ``names`` are in; WeightsError when there is none.

    A file may hold several kinds at once, as the official UNet file does.
    """
    names = list(names)
    fitting = [layout for layout in LAYOUTS if layout.fires(names)]
    for layout in fitting:
        if layout.kind == kind:
            return layout
    found = " and ".join(layout.name for layout in fitting) or f"tensors such as {min(names, default='none')!r}"
    raise WeightsError(f"{_WANTED[kind]} was expected, but this file holds {found}")


def holds_two(names: Iterable[str]) -> bool:
    """Whether one of our own files, of these names, holds two modules that were trained together."""
    names = list(names)
    fitting = {layout.name for layout in LAYOUTS if layout.fires(names)}
    return any(pair <= fitting for pair in _TOGETHER)


_TOGETHER = (
    {"FirstFrame retention branch", "FirstFrame motion module"},
    {"FirstFrame image tokens", "IP-Adapter Plus resampler"},
)
