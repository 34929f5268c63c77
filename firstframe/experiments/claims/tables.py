"""The figures as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..glossary import NUMBERS, plain


def as_markdown(claims: dict[str, Any]) -> str:
    """Every section of ``claims`` as a table with its heading."""
    titles = {"parts": "Parts", "other_look": "The adapter on another look"}
    named = {name: [{"variant": key} | row for key, row in claims[name].items()] for name in titles if name in claims}
    listed = {"actions": "Many actions", "image_scale": "Image scale", "prior": "Frame similarity prior"}
    blocks = [f"## {titles[name]}\n\n{_table(rows)}" for name, rows in named.items()]
    blocks += [f"## {title}\n\n{_table(claims[name])}" for name, title in listed.items() if name in claims]
    return "\n".join(blocks)


def _table(rows: Iterable[dict[str, Any]]) -> str:
    rows = list(rows)
    heads = [NUMBERS[key].label if key in NUMBERS else plain(key) for key in rows[0]]
    lines = [heads, ["---"] * len(heads), *([_cell(key, value) for key, value in row.items()] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(key: str, value: Any) -> str:
    return f"{value:.{NUMBERS[key].digits}f}" if key in NUMBERS else str(value)
