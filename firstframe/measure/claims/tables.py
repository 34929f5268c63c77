"""The figures as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

NUMBERS = {
    "ssim": "ssim",
    "psnr": "psnr (dB)",
    "first_frame_ssim": "ssim of frame 0 to the picture",
    "direction_accuracy": "right direction",
    "flow_score": "flow (px/frame)",
    "warping_error": "warping error",
    "brightness_drift": "brighter by (of 255)",
    "contrast_drift": "more contrast by",
}
_DIGITS = {"psnr": 1, "warping_error": 1, "brightness_drift": 1, "direction_accuracy": 2, "flow_score": 2}


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
    heads = [NUMBERS.get(key, key.replace("_", " ")) for key in rows[0]]
    lines = [heads, ["---"] * len(heads), *([_cell(key, value) for key, value in row.items()] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(key: str, value: Any) -> str:
    return f"{value:.{_DIGITS.get(key, 3)}f}" if key in NUMBERS else str(value)
