"""How the rows of each experiment are plotted."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from matplotlib.axes import Axes

from ..clips.metrics.plot import Lines, Panel, bars, grid, lines
from ..clips.metrics.terms import NUMBERS, plain
from .experiment import Row
from .methods import REFERENCES

_SIMILARITY = "ssim to the true clip"
_RIGHT_WAY = "clips that go where the prompt says"


def method_panels(rows: Sequence[Row]) -> list[Panel]:
    """A bar for each method, and a line for each reference that has the number. Numbers that none has are left out."""
    panels = []
    for key in (key for key, value in rows[0].items() if key in NUMBERS and value is not None):
        there = [row for row in rows if row.get(key) is not None]
        values = {plain(row["method"]): row[key] for row in there if row["method"] not in REFERENCES}
        marks = {plain(row["method"]): row[key] for row in there if row["method"] in REFERENCES}
        panels.append(bars(NUMBERS[key].label, values, NUMBERS[key].digits, marks))
    return panels


def action_panels(rows: Sequence[Row]) -> list[Panel]:
    """Text control over the text scale, and against similarity: one line for each way of guidance.

    Where both scales are 1 there is no guidance: the single scale's line and that of image scale 1 begin there.
    """
    single = [{**row, "way": "one scale for both"} for row in rows if row["guidance"] == "single"]
    dual = [
        {**row, "way": f"image scale {row['image_scale']:g}"}
        for row in rows
        if row["guidance"] == "dual" or row["image_scale"] == row["text_scale"] == 1.0
    ]
    control, trade = (_lines([*single, *dual], x, "direction_accuracy", "way") for x in ("text_scale", "ssim"))
    panel = lines("text control and likeness", _SIMILARITY, _RIGHT_WAY, trade, (0, 1.02))
    return [
        lines("text control", "text scale", _RIGHT_WAY, control, (0, 1.02)),
        Panel(panel.title, partial(_with_text_scales, panel, rows), panel.alt),
    ]


def image_scale_panels(rows: Sequence[Row]) -> list[Panel]:
    """Similarity, brightness and contrast over the image scale, plain and refined."""
    labels = {"ssim": _SIMILARITY, **{key: NUMBERS[key].label for key in ("brightness_drift", "contrast_drift")}}
    return [
        lines(label, "image scale", label, _lines(rows, "image_scale", key, "refinement"))
        for key, label in labels.items()
    ]


def prior_grids(rows: Sequence[Row]) -> list[Panel]:
    """The object's speed, the background's flow, warping error and similarity over t0 and keep."""
    t0s, keeps = _values(rows, "t0"), _values(rows, "keep")
    at = {(row["t0"], row["keep"]): row for row in rows}
    return [
        grid(
            NUMBERS[name].label,
            ("t0", t0s),
            ("keep", keeps),
            [[at[t0, keep][name] or 0.0 for keep in keeps] for t0 in t0s],
            digits,
        )
        for name, digits in (("object_speed", 2), ("background_flow", 2), ("warping_error", 0), ("ssim", 3))
    ]


def prior_lines(rows: Sequence[Row]) -> list[Panel]:
    """The object's speed and warping error over t0 where keep is 1, and over keep where t0 is 1."""
    panels = []
    for knob, other in (("t0", "keep"), ("keep", "t0")):
        line = sorted(({**row, "method": "adapter"} for row in rows if row[other] == 1.0), key=lambda row: row[knob])
        for label, digits, _, number in ((*NUMBERS[number], number) for number in ("object_speed", "warping_error")):
            values = _lines(line, knob, number, "method")
            panels.append(lines(f"{label} over {knob}, {other} = 1", knob, label, values, digits=digits))
    return panels


def motion_panels(rows: Sequence[Row]) -> list[Panel]:
    """A bar for each choice of motion."""
    return [
        bars(NUMBERS[number].label, {row["motion"]: row[number] for row in rows}, NUMBERS[number].digits)
        for number in ("object_speed", "warping_error", "ssim")
    ]


def _lines(rows: Sequence[Row], x: str, y: str, by: str) -> Lines:
    """Values of two columns, a line for each value of a third."""
    named = {name: [row for row in rows if row[by] == name] for name in _values(rows, by)}
    return {name: ([row[x] for row in line], [row[y] for row in line]) for name, line in named.items()}


def _values(rows: Sequence[Row], key: str) -> list[Any]:
    """Every value of a column once, in order."""
    return list(dict.fromkeys(row[key] for row in rows))


def _with_text_scales(panel: Panel, rows: Sequence[Row], axes: Axes) -> None:
    """Each point with its text scale beside it."""
    panel.draw(axes)
    for row in rows:
        axes.annotate(f" {row['text_scale']:g}", (row["ssim"], row["direction_accuracy"]), fontsize=8)
