"""A report as one HTML file that refers to nothing outside of itself, and its tables as Markdown."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from PIL import Image

from ..clips.metrics.plot import svg
from ..clips.metrics.terms import NUMBERS, plain
from .experiment import Report, Row
from .methods import METHODS
from .settings import SETTINGS


def write_pages(folder: Path, report: Report, results: Mapping[str, Any]) -> None:
    """Write report.html, in which images, clips and plots are ``data:`` addresses, and the tables as Markdown.

    Args:
        folder: where the files are that ``results`` names.
        results: as `.run.measure` returns them; experiments that are absent are left out.
    """
    sections = [(one, results[one.name]) for one in report.experiments if one.name in results]
    rows = [row for _, result in sections for row in result["rows"]]
    names = {row.get("method") for row in rows}
    names.update(name for _, result in sections for clips in result["shown"].values() for name in clips)
    environment = page_environment(folder)
    for file, template in {"report.html": "page.html.j2", f"{report.name}.md": "tables.md.j2"}.items():
        page = environment.get_template(template).render(
            report=report,
            results=results,
            lead=report.lead.format_map(results),
            sections=sections,
            methods={plain(name): METHODS[name] for name in METHODS if name in names},
            terms={key: term for key, term in NUMBERS.items() if key in _columns(rows)},
            settings=_settings(results),
            meanings=SETTINGS,
        )
        (folder / file).write_text(page, "utf-8")


def page_environment(folder: Path) -> Environment:
    """Templates of pages; their filters put files of ``folder`` into the page itself."""
    environment = Environment(
        loader=PackageLoader(__package__, ""),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "columns": _columns,
        "words": _words,
        "svg": lambda panel: _address("image/svg+xml", svg(panel).encode()),
        "mp4": lambda name: _address("video/mp4", (folder / name).read_bytes()),
        "webp": lambda name: _address("image/webp", _webp(folder / name)),
        "json": lambda value: _address("application/json", json.dumps(value, indent=2).encode()),
    }
    return environment


def _address(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _webp(file: Path) -> bytes:
    packed = io.BytesIO()
    with Image.open(file) as image:
        image.convert("RGB").save(packed, "WEBP", quality=82, method=6)
    return packed.getvalue()


def _columns(rows: Sequence[Row]) -> list[str]:
    """The keys of all rows, in the order in which they come."""
    return list(dict.fromkeys(key for row in rows for key in row))


def _words(value: Any, key: str = "") -> str:
    """A name or a value as it is read; the numbers of NUMBERS are rounded."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    if key in NUMBERS:
        digits = NUMBERS[key].digits
        return f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0: no "-0.0"
    term = NUMBERS.get(str(value))
    return term.label if term else plain(str(value))


def _settings(results: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked for, and how clips are sampled; settings in settings under "outer.inner"."""
    settings = {key: results[key] for key in ("scenes", "images") if results[key]}
    settings["seed_of_the_scenes"] = results["seed"]
    for key, value in results["settings"].items():
        inner = {f"{key}.{name}": of_name for name, of_name in value.items()} if isinstance(value, dict) else {}
        settings |= inner or {key: value}
    return settings
