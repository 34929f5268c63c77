"""A page as one HTML file that refers to nothing outside of itself."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from ..glossary import NUMBERS, SETTINGS, VARIANTS, plain
from .blocks import Page, Table

_STILL_QUALITY = 82  # of WebP, 0 to 100


def write_page(file: Path, page: Page) -> Path:
    """Write a page. Pictures, clips and drawings become ``data:`` addresses. Returns the file."""
    html = (
        _environment()
        .get_template("page.html.j2")
        .render(
            page=page,
            variants={plain(name): VARIANTS[name] for name in page.variants},
            terms=[(key, term) for key, term in NUMBERS.items() if key in _keys(page)],
            settings=_settings(page.report),
            meanings=SETTINGS,
            json=json.dumps(page.report, indent=2),
        )
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(html, "utf-8")
    return file


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(__package__, ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "plain": plain,
        "heads": _heads,
        "head": _head,
        "cell": _cell,
        "svg": lambda text: _address("image/svg+xml", text.encode()),
        "mp4": lambda file: _address("video/mp4", file.read_bytes()),
        "webp": _webp,
        "file": lambda text: _address("application/json", text.encode()),
    }
    return environment


def _address(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _webp(file: Path) -> str:
    packed = io.BytesIO()
    with Image.open(file) as picture:
        picture.convert("RGB").save(packed, "WEBP", quality=_STILL_QUALITY, method=6)
    return _address("image/webp", packed.getvalue())


def _heads(table: Table) -> list[str]:
    """The keys of all rows, in the order in which they come."""
    return list(dict.fromkeys(key for row in table.rows for key in row))


def _head(key: str) -> Markup:
    """A number's name leads to what it means."""
    if key in NUMBERS:
        return Markup('<a href="#{}">{}</a>').format(key, NUMBERS[key].label)
    return Markup("{}").format(plain(key))


def _cell(value: Any, key: str) -> Markup:
    """A number rounded, with the whole of it behind; anything else as words."""
    if value is None or isinstance(value, bool):
        return Markup({None: "none", True: "yes", False: "no"}[value])
    if not isinstance(value, int | float):
        return Markup("{}").format(plain(str(value)))
    digits = NUMBERS[key].digits if key in NUMBERS else None
    shown = str(value) if digits is None else f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0: no "-0.0"
    return Markup('<data value="{0}" title="{0}">{1}</data>').format(value, shown)


def _keys(page: Page) -> set[str]:
    return {key for section in page.sections for table in section.tables for key in _heads(table)}


def _settings(report: Mapping[str, Any]) -> dict[str, Any]:
    """Of the sampling, and what else was asked for."""
    names = {"scenes": "scenes", "pictures": "pictures", "seed": "seed_of_the_scenes"}
    asked = {name: report[key] for key, name in names.items() if key in report}
    return asked | _flat(report["settings"])


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings in settings under "outer.inner"."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
