"""Clips of a report as files that say what they show, so that a page can be made of a folder."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from torch import Tensor

from ..clips.video import read_clip, write_clip
from .page.blocks import Film, Films

_QUALITY = 18  # crf: looks lossless, and 16 frames of 128 px still take about 20 KB

Shown = Sequence[tuple[str, dict[str, Tensor]]]
"""Captions with named clips (F, H, W, 3)."""


def keep_films(folder: Path, shown: Shown) -> None:
    """Write every clip as an mp4 file that carries its caption and name; earlier ones in the folder go."""
    for old in folder.glob("*.mp4"):
        old.unlink()
    for place, (caption, clips) in enumerate(shown):
        for row, (name, frames) in enumerate(clips.items()):
            about = {"caption": caption, "name": name}
            write_clip(folder / f"{place:02}_{row:02}.mp4", frames, metadata=about, crf=_QUALITY)


def films_in(folder: Path) -> list[Films]:
    """What :func:`keep_films` wrote, a group for each caption; empty where there is nothing."""
    files = sorted(folder.glob("*.mp4"))
    about = {file: read_clip(file).metadata for file in files}
    groups = groupby(files, lambda file: file.name.split("_")[0])
    return [_group([(file, about[file]) for file in of_caption]) for _, of_caption in groups]


def _group(clips: list[tuple[Path, dict[str, str]]]) -> Films:
    return Films(clips[0][1]["caption"], [Film(file, about["name"]) for file, about in clips])
