"""Images of others that training scenes may contain, each with its licence (``tiny/sources.json``)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ...errors import FirstFrameError

_CUTOUT_FOLDERS = ("animals", "food", "plants", "people", "recreation", "tools", "transportation", "containers")


@dataclass(frozen=True)
class Sources:
    """Where photographs and cut-outs come from.

    Attributes:
        photographs: files, for backgrounds; at least one.
        cutouts: files of images with transparency, for objects; may be empty.
    """

    photographs: tuple[Path, ...]
    cutouts: tuple[Path, ...] = ()


def source_list() -> dict[str, Any]:
    """Every source with its licence, and every photograph with its author."""
    listed: dict[str, Any] = json.loads((Path(__file__).parents[1] / "sources.json").read_text("utf-8"))
    return listed


def _skimage_data() -> Path:
    spec = find_spec("skimage")
    return Path(spec.origin).parent / "data" if spec and spec.origin else Path()


SKIMAGE_DATA = _skimage_data()
"""Where scikit-image keeps its images; scenes are rendered with it, but nothing else needs it."""
BUILT_IN = Sources(tuple(SKIMAGE_DATA / name for name in source_list()["scikit-image"]["files"]))
"""The photographs that scikit-image carries inside its package."""


def sources_in(folder: Path) -> Sources:
    """Those of the list that lie below ``folder``, where Debian packages were unpacked, and the built-in ones.

    Raises:
        FirstFrameError: none is there.
    """
    named = source_list()["lomiri-wallpapers-16.04"]["files"]
    photographs = sorted(path for path in folder.rglob("*.jpg") if path.name in named)
    clipart = sorted(folder.rglob("openclipart/png"))
    cutouts = sorted(file for root in clipart for part in _CUTOUT_FOLDERS for file in (root / part).rglob("*.png"))
    if not photographs and not cutouts:
        raise FirstFrameError(
            f"{folder} has none of the images that training may use: unpack the Debian packages "
            f"lomiri-wallpapers-16.04 and openclipart-png there (dpkg -x FILE.deb {folder})"
        )
    return Sources((*BUILT_IN.photographs, *photographs), tuple(cutouts))
