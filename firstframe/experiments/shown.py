"""The clips that a report shows: single files, contact sheets, and all of them side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ..clips.video import contact_sheet, write_clip

Shown = Mapping[str, Mapping[str, Tensor]]
"""Named clips (F, H, W, 3) under headings."""

_COLUMNS = 8


def write_clips(folder: Path, name: str, shown: Shown) -> dict[str, dict[str, str]]:
    """Write ``name``_frames.png, ``name``.gif, and every clip as an mp4 file.

    Returns:
        The mp4 files by heading and name, relative to ``folder``.
    """
    contact_sheets(shown).savefig(folder / f"{name}_frames.png", dpi=90, bbox_inches="tight")
    write_clip(folder / f"{name}.gif", torch.cat([torch.cat(list(clips.values()), 1) for clips in shown.values()], 2))
    files: dict[str, dict[str, str]] = {}
    for group, (heading, clips) in enumerate(shown.items()):
        files[heading] = {label: f"clips/{name}/{group:02}_{row:02}.mp4" for row, label in enumerate(clips)}
        for label, frames in clips.items():
            write_clip(folder / files[heading][label], frames)
    return files


def contact_sheets(shown: Shown) -> Figure:
    """Under each heading a row per clip: up to eight of its frames, evenly spaced."""
    heights = [len(clips) for clips in shown.values()]
    figure = Figure(figsize=(12, 1.35 * sum(heights)), layout="constrained")
    axes = figure.subplots(len(shown), squeeze=False, height_ratios=heights)[:, 0]
    for axis, (heading, clips) in zip(axes, shown.items(), strict=True):
        frames = torch.cat([_evenly(frames) for frames in clips.values()])
        axis.imshow(contact_sheet(frames, len(frames) // len(clips)))
        axis.set_title(heading, loc="left", fontsize=10)
        axis.set(xticks=[], yticks=[(row + 0.5) * (frames.shape[1] + 2) for row in range(len(clips))])
        axis.set_yticklabels(clips)
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
    return figure


def _evenly(frames: Tensor) -> Tensor:
    """At most eight frames, the first and the last among them."""
    return frames[torch.linspace(0, len(frames) - 1, min(_COLUMNS, len(frames))).round().long()]
