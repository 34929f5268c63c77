"""What is in a weights file: which layouts, how many parameters, of what types, at which places of the UNet."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..errors import FirstFrameError
from ..sites import SD15, SDXL, Site
from .door import is_finite
from .files import load_metadata, load_state_dict
from .layouts import LAYOUTS, Layout

_OURS = re.compile(r"(?:sites|temporal)\.(\w+?)\.")


@dataclass(frozen=True)
class Part:
    """What a file holds of one layout.

    Attributes:
        sites: places in the UNet that it has tensors for.
        missing: attention sites of Stable Diffusion 1.5, or of SDXL, that it lacks; empty where it is no adapter for
            that UNet.
    """

    layout: Layout
    sites: tuple[Site, ...]
    missing: tuple[Site, ...]


@dataclass(frozen=True)
class Inspection:
    """Of a file.

    Attributes:
        parts: one for each layout that it is in; none where it is unknown.
        dtypes: parameters of each type, the most frequent first.
        not_finite: names of tensors with NaN or infinite values.
        metadata: of a safetensors file.
    """

    path: Path
    tensors: int
    dtypes: dict[str, int]
    parts: tuple[Part, ...]
    not_finite: tuple[str, ...]
    metadata: dict[str, str]

    @property
    def parameters(self) -> int:
        """How many numbers there are."""
        return sum(self.dtypes.values())


def inspect(path: Path) -> Inspection:
    """Read a weights file and tell what is in it. Raises WeightsError where it cannot be read."""
    state, metadata = load_state_dict(path), load_metadata(path)
    dtypes: Counter[str] = Counter()
    for tensor in state.values():
        dtypes[str(tensor.dtype).removeprefix("torch.")] += tensor.numel()
    broken = tuple(name for name, tensor in state.items() if not is_finite(tensor))
    parts = tuple(_part(layout, state) for layout in LAYOUTS if layout.fires(state))
    return Inspection(path, len(state), dict(dtypes.most_common()), parts, broken, metadata)


def _part(layout: Layout, names: Iterable[str]) -> Part:
    sites = {site for name in names if (site := _site(layout, name)) is not None}
    unet = SDXL if any(site.depth for site in sites) else SD15
    wanted = unet.attention_sites if layout.kind in ("i2v_adapter", "image_tokens") else {}
    missing = tuple(site for site in wanted if site not in sites) if sites <= wanted.keys() else ()
    return Part(layout, tuple(sorted(sites)), missing)


def _site(layout: Layout, name: str) -> Site | None:
    """Where a tensor belongs; None where it is of no place, or of none that this layout knows."""
    try:
        ours = layout.keymap.ours(name) if layout.keymap else name
        return Site.from_key(match[1]) if (match := _OURS.match(ours or "")) else None
    except FirstFrameError:
        return None
