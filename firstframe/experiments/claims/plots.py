"""The figures as drawings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from matplotlib.axes import Axes

from ..figures import Panel, grid, lines
from ..glossary import NUMBERS

Row = dict[str, Any]

_TRUE_CLIP = "ssim to the true clip"
_RIGHT_WAY = "clips that go where the prompt says"


def action_panels(rows: Sequence[Row]) -> list[Panel]:
    """Text control over the text scale, and against likeness: one line for each way of guidance."""
    ways = _ways(rows)
    control = {name: _columns(line, "text_scale", "direction_accuracy") for name, line in ways.items()}
    trade = {name: _columns(line, "ssim", "direction_accuracy") for name, line in ways.items()}
    panel = lines("text control and likeness", _TRUE_CLIP, _RIGHT_WAY, trade, (0, 1.02))
    return [
        lines("text control", "text scale", _RIGHT_WAY, control, (0, 1.02)),
        Panel(panel.title, partial(_with_text_scales, panel.draw, rows), panel.alt),
    ]


def image_scale_panels(rows: Sequence[Row]) -> list[Panel]:
    """Likeness, brightness and contrast over the image scale, plain and refined."""
    refinements = dict.fromkeys(row["refinement"] for row in rows)
    by_name = {name: [row for row in rows if row["refinement"] == name] for name in refinements}
    labels = {
        "ssim": _TRUE_CLIP,
        **{name: NUMBERS[name].label for name in ("brightness_drift", "contrast_drift")},
    }
    return [
        lines(label, "image scale", label, {n: _columns(line, "image_scale", key) for n, line in by_name.items()})
        for key, label in labels.items()
    ]


def prior_panels(rows: Sequence[Row]) -> list[Panel]:
    """Flow score, warping error and likeness over t0 and p."""
    t0s, ps = (list(dict.fromkeys(row[knob] for row in rows)) for knob in ("t0", "p"))
    return [
        grid(NUMBERS[name].label, ("t0", t0s), ("p", ps), [[_at(rows, t0, p)[name] for p in ps] for t0 in t0s], digits)
        for name, digits in (("flow_score", 2), ("warping_error", 0), ("ssim", 3))
    ]


PANELS: dict[str, tuple[str, Callable[[Sequence[Row]], list[Panel]]]] = {
    "actions": ("many actions from one picture", action_panels),
    "image_scale": ("image scale", image_scale_panels),
    "prior": ("frame similarity prior", prior_panels),
}
"""For each section that has drawings their common title, and what makes them."""


def _with_text_scales(draw: Callable[[Axes], None], rows: Sequence[Row], axes: Axes) -> None:
    """Each point with its text scale beside it."""
    draw(axes)
    for row in rows:
        axes.annotate(f" {row['text_scale']:g}", (row["ssim"], row["direction_accuracy"]), fontsize=8)


def _ways(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by how they are guided; where both scales are 1 there is no guidance, and every line begins."""
    ways: dict[str, list[Row]] = {"one scale for both": [row for row in rows if row["guidance"] == "single"]}
    unguided = [row for row in rows if row["image_scale"] == row["text_scale"] == 1.0]
    for scale in dict.fromkeys(row["image_scale"] for row in rows if row["guidance"] == "dual"):
        own = [row for row in rows if row["guidance"] == "dual" and row["image_scale"] == scale]
        ways[f"image scale {scale:g}"] = [*(unguided if scale == 1.0 else []), *own]
    return ways


def _at(rows: Sequence[Row], t0: float, p: float) -> Row:
    return next(row for row in rows if (row["t0"], row["p"]) == (t0, p))


def _columns(rows: Sequence[Row], x: str, y: str) -> tuple[list[float], list[float]]:
    return [row[x] for row in rows], [row[y] for row in rows]
