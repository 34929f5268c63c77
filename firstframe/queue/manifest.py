"""The manifest: what was sent where and how it ended, one JSON object a line. It is what a resume goes by."""

from __future__ import annotations

import csv
import json
import os
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ..errors import FirstFrameError
from .events import Event, read_events, set_aside_damaged
from .plan import Job

ENDS = ("done", "failed", "released")
"""Events after which a job that was sent is no longer open."""
COLUMNS = ("job", "state", "file", "picture", "prompt_index", "prompt", "seed", "server", "seconds", "sha256", "reason")


class Manifest:
    """Append-only events in a file that one client at a time writes. An event is on the disk before `add` returns.

    Events: ``run`` (a client began), ``sent`` (written before the job is sent, so that no sent job is unknown),
    ``released`` (the server died or lost it; it is to be sent again), ``done``, ``failed``, ``cancelled`` (taken off a
    server, which may have ended it all the same).

    Attributes:
        path: The file.
        events: All events, in order.
        warning: What to tell the user of damaged lines that were set aside; "" where there were none.

    Raises:
        FirstFrameError: Another client has it.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._lock = FileLock(path.with_name(f".{path.name}.lock"))
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise FirstFrameError(f"{path}: another firstframe queue or batch is at work in this folder") from error
        self.warning = _mended(path) if path.exists() else ""
        self._by_kind: dict[str, list[Event]] = {}
        self.events: list[Event] = []
        for event in read_events(path) if path.exists() else []:
            self._note(event)
        self._file = path.open("a", encoding="utf-8", errors="backslashreplace")

    def __enter__(self) -> Manifest:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._lock.release()

    def add(self, event: str, **facts: Any) -> Event:
        """Append an event."""
        line = {"event": event, "time": round(time.time(), 3), **facts}
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._note(line)
        return line

    def _note(self, event: Event) -> None:
        self.events.append(event)
        self._by_kind.setdefault(event["event"], []).append(event)

    def of_kind(self, event: str) -> list[Event]:
        """All events of a kind, in order."""
        return self._by_kind.get(event, [])

    def begin(self, **facts: Any) -> str:
        """Note that a client begins; its id, the same in every run, so that a server goes on telling it of its jobs."""
        before = self.of_kind("run")
        client: str = before[0]["client"] if before else uuid.uuid4().hex
        self.add("run", client=client, **facts)
        return client

    def open(self) -> dict[str, Event]:
        """The last ``sent`` of every job whose end is unknown, by job."""
        sent: dict[str, Event] = {}
        for event in self.events:
            if event["event"] == "sent":
                sent[event["job"]] = event
            elif event["event"] in ENDS:
                sent.pop(event["job"], None)
        return sent


def done_jobs(folder: Path) -> set[str]:
    """Jobs with a result that is still there."""
    done = [event for event in folder_events(folder) if event["event"] == "done"]
    return {event["job"] for event in done if all(_is_there(folder, file) for file in event["files"])}


def folder_events(folder: Path) -> list[Event]:
    """Events of all manifests in a folder (each shard has its own), as they happened."""
    events = [event for path in folder.glob("manifest*.jsonl") for event in read_events(path)]
    return sorted(events, key=lambda event: event["time"])


def _is_there(folder: Path, file: dict[str, Any]) -> bool:
    path = folder / file["file"]
    return path.is_file() and path.stat().st_size == file["bytes"]


def _mended(path: Path) -> str:
    numbers, aside = set_aside_damaged(path)
    if not numbers:
        return ""
    lines = f"lines {', '.join(map(str, numbers))} are" if len(numbers) > 1 else f"line {numbers[0]} is"
    return f"{path}: {lines} damaged, and now in {aside.name}; a job that is missing by it is looked for or done again"


def facts_of(job: Job) -> dict[str, Any]:
    """What the manifest says of a job."""
    return {
        "job": job.id,
        "picture": str(job.image.path) if job.image else None,
        "picture_sha256": job.image.sha256 if job.image else None,
        "prompt_index": job.prompt_index,
        "prompt": job.prompt,
        "seed": job.seed,
    }


def write_csv(path: Path, jobs: Iterable[Job], events: Iterable[Event]) -> None:
    """A table beside the manifest: one row for each file, or for each job without one; the last end counts."""
    ends = {event["job"]: event for event in events if event["event"] in ("done", "failed")}
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        table.writeheader()
        for job in jobs:
            end = ends.get(job.id, {"event": "not done"})
            for made in end.get("files", [{}]):
                table.writerow({**facts_of(job), **end, "state": end["event"], **made})
