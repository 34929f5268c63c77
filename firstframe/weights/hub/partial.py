"""A file that has arrived in part."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path


class Partial:
    """Bytes of a download under a name that stays the same, and beside them the version that they are of.

    The version is written before the first byte, so that a process that is killed at any moment leaves bytes of a known
    version, or none.

    Args:
        path: Where the bytes are.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.note = path.with_name(f"{path.name}.json")

    @property
    def size(self) -> int:
        """How many bytes are there."""
        return self.path.stat().st_size if self.path.exists() else 0

    def version(self, url: str) -> str | None:
        """The ETag of the file at ``url`` that the bytes are of; None where they are of another file, or none."""
        if not self.size:
            return None
        with suppress(OSError, ValueError):
            note = json.loads(self.note.read_text("utf-8"))
            if isinstance(note, dict) and note.get("url") == url and isinstance(note.get("etag"), str):
                return str(note["etag"])
        return None

    def start_over(self, url: str, etag: str | None) -> None:
        """Throw away what is there; what is written from now on is of this version."""
        self.remove()
        if etag:
            self.note.write_text(json.dumps({"url": url, "etag": etag}), "utf-8")

    def remove(self) -> None:
        """Throw away what is there."""
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def finish(self, target: Path) -> None:
        """Give the bytes their final name, once they are on the disk."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
        self.path.replace(target)
        self.note.unlink(missing_ok=True)
