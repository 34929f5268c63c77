"""A plan in words and as an image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image
from torch.nn import functional

from ...clips.video import contact_sheet
from .plan import Plan, Sample
from .read import Clip

SHOWN, FRAMES_SHOWN, TILE = 24, 8, 96
NAMED = 20


def in_words(plan: Plan) -> Iterator[str]:
    """Lines: how many samples of which size, what is held out, left out and changed."""
    clips = {sample.digest for sample in plan.samples}
    yield f"{len(clips)} clips, {len(plan.train)} samples to train on, {len(plan.held_out)} held out"
    for (size, frames), count in sorted(Counter(sample.bucket for sample in plan.samples).items()):
        yield f"  {size.width} x {size.height}, {frames} frames: {count}"
    yield from _named("left out", [f"{clip.source.name}: {clip.reason}" for clip in plan.left_out])
    yield from _named("changed much", list(plan.notes))


def _named(title: str, lines: list[str]) -> Iterator[str]:
    if lines:
        yield f"{title}: {len(lines)}"
        yield from (f"  {line}" for line in lines[:NAMED])
        if len(lines) > NAMED:
            yield f"  and {len(lines) - NAMED} more"


def sheet(plan: Plan) -> Image.Image:
    """A row of frames for each of some samples, as the model will see them, evenly drawn from all."""
    step = max(1, len(plan.samples) // SHOWN)
    return contact_sheet(torch.cat([_row(sample) for sample in plan.samples[::step][:SHOWN]]), columns=FRAMES_SHOWN)


def _row(sample: Sample) -> torch.Tensor:
    """(FRAMES_SHOWN, TILE, TILE, 3), with white bars where the sample is no square."""
    even = torch.linspace(0, len(sample.frames) - 1, FRAMES_SHOWN).round().int().tolist()
    frames = Clip(sample.source.path).frames([sample.frames[index] for index in even], sample.size)
    scale = TILE / max(sample.size)
    height, width = round(sample.size.height * scale), round(sample.size.width * scale)
    small = functional.interpolate(frames, (height, width), mode="bilinear", antialias=True).clamp(0, 1)
    right, below = TILE - width, TILE - height
    bars = (right // 2, right - right // 2, below // 2, below - below // 2)
    return functional.pad(small, bars, value=1.0).movedim(1, -1)


def write_sheet(plan: Plan, file: Path) -> Path:
    """Write `sheet`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    sheet(plan).save(file)
    return file
