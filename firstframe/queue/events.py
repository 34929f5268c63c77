"""The events of a manifest: their form, and reading them from a file that may be damaged."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, FiniteFloat

from ..clips.leftovers import part_name

Event = dict[str, Any]


class _AnyEvent(BaseModel):
    model_config = ConfigDict(strict=True)
    event: str
    time: FiniteFloat


class _Run(_AnyEvent):
    client: str


class _AtServer(_AnyEvent):
    job: str
    prompt_id: str
    server: str


class _MadeFile(BaseModel):
    file: str
    bytes: int


class _Done(_AnyEvent):
    job: str
    files: list[_MadeFile]


class _Failed(_AnyEvent):
    job: str


FORMS: dict[str, type[_AnyEvent]] = {
    "run": _Run,
    "sent": _AtServer,
    "released": _AtServer,
    "cancelled": _AtServer,
    "done": _Done,
    "failed": _Failed,
}


def read_event(line: bytes) -> Event | None:
    """The event in a line; None where the line is none."""
    try:
        event: Event = json.loads(line)
        kind = _AnyEvent.model_validate(event).event
        FORMS.get(kind, _AnyEvent).model_validate(event)
    except (ValueError, RecursionError):
        return None
    return event


def read_events(path: Path) -> list[Event]:
    """The events in a file. Damaged lines, and a last line without its end, which a crash leaves, do not count."""
    return [event for line in _lines(path) if (event := read_event(line))]


def set_aside_damaged(path: Path) -> tuple[list[int], Path]:
    """Move the lines that are no events out of a file, which nobody else may have open. A last line without its end
    is dropped.

    Returns:
        Their numbers, from 1, and the file beside it that they were added to.
    """
    lines = _lines(path)
    damaged = {number: line for number, line in enumerate(lines, 1) if read_event(line) is None}
    aside = path.with_suffix(".damaged")
    if damaged:
        _write(aside, damaged.values(), "ab")
    kept = [line for number, line in enumerate(lines, 1) if number not in damaged]
    if damaged or path.stat().st_size > sum(len(line) + 1 for line in kept):
        part = path.with_name(part_name(path.name))
        _write(part, kept, "wb")
        part.replace(path)
    return list(damaged), aside


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().split(b"\n")[:-1]


def _write(path: Path, lines: Iterable[bytes], mode: str) -> None:
    with path.open(mode) as file:
        file.writelines(line + b"\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())
