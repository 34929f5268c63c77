"""The figures as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Row = dict[str, Any]


def plot_actions(rows: Sequence[Row], file: Path) -> None:
    """Text control over the text scale, and against likeness: one line for each way of guidance."""
    figure, (control, trade) = _side_by_side("many actions from one picture")
    for name, line in _lines(rows).items():
        control.plot(*_columns(line, "text_scale", "direction_accuracy"), marker="o", label=name)
        trade.plot(*_columns(line, "ssim", "direction_accuracy"), marker="o", label=name)
        for row in line:
            trade.annotate(f" {row['text_scale']:g}", (row["ssim"], row["direction_accuracy"]), fontsize=8)
    control.set(xlabel="text scale", ylabel="clips that go where the prompt says", ylim=(0, 1.02))
    trade.set(xlabel="ssim to the true clip", ylabel="clips that go where the prompt says", ylim=(0, 1.02))
    _save(figure, control, file)


def plot_image_scales(rows: Sequence[Row], file: Path) -> None:
    """Likeness, brightness and contrast over the image scale, plain and refined."""
    figure, axes = _side_by_side("image scale", count=3)
    names = ("ssim", "brightness_drift", "contrast_drift")
    labels = ("ssim to the true clip", "brighter by (of 255)", "more contrast by")
    for axis, name, label in zip(axes, names, labels, strict=True):
        for refinement in dict.fromkeys(row["refinement"] for row in rows):
            line = [row for row in rows if row["refinement"] == refinement]
            axis.plot(*_columns(line, "image_scale", name), marker="o", label=refinement)
        axis.set(xlabel="image scale", ylabel=label)
    _save(figure, axes[0], file)


def plot_prior(rows: Sequence[Row], file: Path) -> None:
    """Flow score, warping error and likeness over t0 and p."""
    figure, axes = _side_by_side("frame similarity prior", count=3)
    t0s, ps = (list(dict.fromkeys(row[knob] for row in rows)) for knob in ("t0", "p"))
    for axis, name, digits in zip(axes, ("flow_score", "warping_error", "ssim"), (2, 0, 3), strict=True):
        values = np.array([row[name] for row in rows]).reshape(len(t0s), len(ps))
        axis.imshow(values, cmap="viridis")
        for (y, x), value in np.ndenumerate(values):
            colour = "black" if value > (values.min() + values.max()) / 2 else "white"
            axis.text(x, y, f"{value:.{digits}f}", ha="center", va="center", color=colour, fontsize=8)
        axis.set(xlabel="p", ylabel="t0", title=name.replace("_", " "))
        axis.set(xticks=range(len(ps)), xticklabels=ps, yticks=range(len(t0s)), yticklabels=t0s)
    _save(figure, None, file)


def _lines(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by how they are guided; where both scales are 1 there is no guidance, and every line begins."""
    ways: dict[str, list[Row]] = {"one scale for both": [row for row in rows if row["guidance"] == "single"]}
    unguided = [row for row in rows if row["image_scale"] == row["text_scale"] == 1.0]
    for scale in dict.fromkeys(row["image_scale"] for row in rows if row["guidance"] == "dual"):
        own = [row for row in rows if row["guidance"] == "dual" and row["image_scale"] == scale]
        ways[f"image scale {scale:g}"] = [*(unguided if scale == 1.0 else []), *own]
    return ways


def _columns(rows: Sequence[Row], *names: str) -> list[list[float]]:
    return [[row[name] for row in rows] for name in names]


def _side_by_side(title: str, count: int = 2) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(4.2 * count, 3.6), layout="constrained")
    figure.suptitle(title)
    return figure, list(np.atleast_1d(figure.subplots(1, count)))


def _save(figure: Figure, with_legend: Axes | None, file: Path) -> None:
    if with_legend is not None:
        with_legend.legend(fontsize=8)
    figure.savefig(file, dpi=110)
