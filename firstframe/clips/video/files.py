"""Names for files: a half-written one never has its final name, and a taken one can be left alone."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ...errors import FirstFrameError


@contextmanager
def unfinished_beside(path: Path) -> Iterator[Path]:
    """A hidden name in the folder of ``path`` to write to. What is still there at the end is deleted."""
    unfinished = path.with_name(f".firstframe-{uuid.uuid4().hex}{path.suffix.lower()}")
    try:
        yield unfinished
    finally:
        if unfinished.is_dir():
            shutil.rmtree(unfinished)
        else:
            unfinished.unlink(missing_ok=True)


def move_to_free_name(finished: Path, names: Iterable[Path]) -> Path:
    """Give ``finished`` the first of ``names`` that nothing has yet, whoever else is looking for one. Returns it.

    Raises FirstFrameError where all are taken.
    """
    tried = []
    for path in names:
        with suppress(FileExistsError):
            (_move_folder if finished.is_dir() else _move_file)(finished, path)
            return path
        tried.append(str(path))
    raise FirstFrameError(f"there already: {', '.join(tried)}; name another")


def _move_file(finished: Path, path: Path) -> None:
    """Raises FileExistsError; os.rename would replace what is there."""
    try:
        os.link(finished, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links: the name is taken first, as an empty file
        path.touch(exist_ok=False)
        finished.replace(path)


def _move_folder(finished: Path, path: Path) -> None:
    """Raises FileExistsError; os.rename refuses all but an empty folder."""
    try:
        finished.rename(path)
    except OSError as error:
        if os.path.lexists(path):
            raise FileExistsError(path) from error
        raise
