"""What a page is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Table:
    """Rows with their keys as heads; keys of :data:`..glossary.NUMBERS` get that name, others are written as words."""

    caption: str
    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Plot:
    """A drawing (an SVG document), and in words what it shows."""

    svg: str
    alt: str


@dataclass(frozen=True)
class Film:
    """A short clip: its file and what it shows."""

    file: Path
    name: str


@dataclass(frozen=True)
class Films:
    """Clips that belong together, side by side under a caption."""

    caption: str
    films: Sequence[Film]


@dataclass(frozen=True)
class Still:
    """A picture that is folded away until it is asked for."""

    file: Path
    caption: str


@dataclass(frozen=True)
class Section:
    """A heading, a few sentences, and in this order what they are about."""

    title: str
    text: str
    tables: Sequence[Table] = ()
    plots: Sequence[Plot] = ()
    films: Sequence[Films] = ()
    stills: Sequence[Still] = ()


@dataclass(frozen=True)
class Page:
    """A report.

    report: what was measured, with `settings` and `made_with`; it lies in the page as a file, too.
    file: the name of that file.
    variants: names out of :data:`..glossary.VARIANTS` that are explained at the top.
    """

    title: str
    lead: str
    sections: Sequence[Section]
    report: Mapping[str, Any]
    file: str
    variants: Sequence[str] = field(default=())
