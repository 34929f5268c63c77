"""Half-written files that a crash left behind."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

DAY = 24 * 3600.0
PREFIX = ".firstframe-"
_OWN = re.compile(re.escape(PREFIX) + r"(?:(?:clip-)?[0-9a-f]{32}(?:\.\w+)?|.+\.part(?:\.json)?|fetch)")


def part_name(name: str) -> str:
    """What the file ``name`` is called until it is whole: always the same, and hidden."""
    return f"{PREFIX}{name}.part"


def remove_leftovers(folder: Path, keep: Collection[Path] = (), older_than: float = DAY) -> list[Path]:
    """Delete FirstFrame's own unfinished files and folders in ``folder`` that nobody has touched for a while.

    Own names are ``.firstframe-`` or ``.firstframe-clip-`` followed by 32 hex digits and a suffix (clips),
    ``.firstframe-`` followed by a name and ``.part`` (downloads), and the folder ``.firstframe-fetch``. Anything else
    stays, and so does what cannot be deleted.

    Args:
        folder: Where to look; not below it. It need not exist.
        keep: Paths that stay whatever their age.
        older_than: Seconds since the last change.

    Returns:
        What was deleted.
    """
    before = time.time() - older_than
    removed = []
    for path in folder.glob(f"{PREFIX}*"):
        if _OWN.fullmatch(path.name) and path not in keep:
            with suppress(OSError):
                if path.lstat().st_mtime < before:
                    _remove(path)
                    removed.append(path)
    return removed


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
