"""Rows of frames to look at."""

from __future__ import annotations

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ..clips.video import contact_sheet
from .films import Shown

_MARGIN = 110  # pixels for the names on the left
_LINE = 16  # pixels for a caption
_COLUMNS = 8


def draw_report(scenes: Shown) -> Image.Image:
    """For each scene its caption and one row of frames per clip, named on the left.

    scenes: captions with named clips (F, H, W, 3), of which up to eight frames, evenly spaced, are shown.
    """
    blocks = [_draw_scene(caption, clips) for caption, clips in scenes]
    width = max(block.width for block in blocks)
    report = Image.new("RGB", (width, sum(block.height for block in blocks)), "white")
    top = 0
    for block in blocks:
        report.paste(block, (0, top))
        top += block.height
    return report


def animate_report(scenes: Shown) -> Tensor:
    """The same clips moving: frames (F, H, W, 3) with a column for each scene and a row for each of its clips."""
    columns = [torch.cat(list(clips.values()), dim=1) for _, clips in scenes]
    return torch.cat(columns, dim=2)


def _draw_scene(caption: str, clips: dict[str, Tensor]) -> Image.Image:
    rows = {name: contact_sheet(_evenly(frames), _COLUMNS) for name, frames in clips.items()}
    row_width, row_height = next(iter(rows.values())).size
    block = Image.new("RGB", (_MARGIN + row_width, _LINE + len(rows) * (row_height + 2) + 8), "white")
    draw = ImageDraw.Draw(block)
    draw.text((_MARGIN, 2), caption, fill="black")
    for index, (name, row) in enumerate(rows.items()):
        top = _LINE + index * (row_height + 2)
        draw.text((4, top + row_height // 2 - 6), name, fill="black")
        block.paste(row, (_MARGIN, top))
    return block


def _evenly(frames: Tensor) -> Tensor:
    """At most eight frames, the first and the last among them."""
    count = min(_COLUMNS, len(frames))
    return frames[torch.linspace(0, len(frames) - 1, count).round().long()]
