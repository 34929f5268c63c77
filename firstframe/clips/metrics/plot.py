"""Plots of numbers: panels, drawn side by side in one figure."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

Lines = Mapping[str, tuple[Sequence[float], Sequence[float]]]
"""Values of x and y, by the line's name."""

SIZE = (4.2, 3.6)  # inches of one panel
_INK = "#1d232b"  # becomes the page's own colour
_ON_PAGE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "firstframe",
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "legend.facecolor", "legend.edgecolor"), "none"),
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _INK),
}
_INK_OF_PAGE = "<style>svg{color:#1d232b}@media(prefers-color-scheme:dark){svg{color:#e6eaef}}</style>"
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


@dataclass(frozen=True)
class Panel:
    """One drawing: a title, how to draw it on axes, and what it shows in words."""

    title: str
    draw: Callable[[Axes], None]
    alt: str


def bars(title: str, values: Mapping[str, float], digits: int, marks: Mapping[str, float] | None = None) -> Panel:
    """A bar for each name, its value beside it; ``marks`` are lines to compare with, such as a ceiling."""
    marks = marks or {}

    def draw(axes: Axes) -> None:
        drawn = axes.barh(list(values), list(values.values()), height=0.6)
        axes.bar_label(drawn, fmt=f"%.{digits}f", padding=3)
        for index, (name, value) in enumerate(marks.items()):
            axes.axvline(value, zorder=0, linestyle="--", color=f"C{index + 1}", label=f"{name} {value:.{digits}f}")
        axes.invert_yaxis()
        axes.margins(x=0.28)
        axes.locator_params(axis="x", nbins=5)
        if marks:
            axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2)

    read = ", ".join(f"{name} {value:.{digits}f}" for name, value in {**values, **marks}.items())
    return Panel(title, draw, f"Bars: {title}: {read}.")


def lines(
    title: str, xlabel: str, ylabel: str, of: Lines, limits: tuple[float, float] | None = None, digits: int = 3
) -> Panel:
    """Values of y over x, a line for each name; ``limits`` of y where they are not the data's own."""

    def draw(axes: Axes) -> None:
        for name, (x, y) in of.items():
            axes.plot(x, y, marker="o", markersize=4, label=name)
        axes.set(xlabel=xlabel, ylabel="" if ylabel == title else ylabel)
        axes.locator_params(axis="x", nbins=6)
        if limits:
            axes.set_ylim(*limits)
        if len(of) > 1:
            axes.legend(fontsize=8)

    read = "; ".join(
        f"{name}: " + ", ".join(f"{b:.{digits}f} at {a:g}" for a, b in zip(x, y, strict=True))
        for name, (x, y) in of.items()
    )
    return Panel(title, draw, f"Lines: {ylabel} over {xlabel}: {read}.")


def grid(
    title: str, rows: tuple[str, Sequence[float]], columns: tuple[str, Sequence[float]], values: Any, digits: int
) -> Panel:
    """A table (rows x columns) coloured by its values; ``rows`` and ``columns`` are names with their values."""
    values = np.asarray(values)

    def draw(axes: Axes) -> None:
        axes.imshow(values, cmap="viridis")
        middle = (values.min() + values.max()) / 2
        for (y, x), value in np.ndenumerate(values):
            colour = "black" if value > middle else "white"
            axes.text(x, y, f"{value:.{digits}f}", ha="center", va="center", color=colour, fontsize=8)
        axes.set(ylabel=rows[0], yticks=range(len(rows[1])), yticklabels=rows[1])
        axes.set(xlabel=columns[0], xticks=range(len(columns[1])), xticklabels=columns[1])

    read = "; ".join(
        f"{rows[0]} {row:g}: " + ", ".join(f"{value:.{digits}f}" for value in line)
        for row, line in zip(rows[1], values, strict=True)
    )
    over = ", ".join(f"{column:g}" for column in columns[1])
    return Panel(title, draw, f"Grid: {title}, over {columns[0]} of {over}. {read}.")


def side_by_side(title: str, panels: Sequence[Panel], columns: int = 3, size: tuple[float, float] = SIZE) -> Figure:
    """All panels, of ``size`` inches each, in rows under one title. Names are plain text: "$" starts no formula."""
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    with matplotlib.rc_context({"text.parse_math": False}):
        figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
        if title:
            figure.suptitle(title)
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis, panel in zip(axes, panels, strict=False):
            axis.set_title(panel.title, fontsize=10)
            panel.draw(axis)
        for axis in axes[len(panels) :]:
            axis.remove()
    return figure


def pixels(figure: Figure, dpi: int = 110) -> NDArray[np.uint8]:
    """The figure as an image (H, W, 3)."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def svg(panel: Panel) -> str:
    """The panel for a web page: text stays text, and its colour follows the reader's light or dark."""
    drawn = io.StringIO()
    with matplotlib.rc_context(_ON_PAGE):
        side_by_side("", [panel], size=(4.2, 3.0)).savefig(drawn, format="svg", metadata=_NO_METADATA)
    head, body = drawn.getvalue().replace(_INK, "currentColor").split("<defs>", 1)
    return f"{head}{_INK_OF_PAGE}<defs>{body}"
