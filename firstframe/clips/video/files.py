"""Names for files: a half-written one never has its final name, and a taken one can be left alone."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ...errors import FirstFrameError
from ..leftovers import PREFIX

UNFINISHED = f"{PREFIX}clip-"


@contextmanager
def unfinished_beside(path: Path) -> Iterator[Path]:
    """A hidden name in the folder of ``path`` to write to. What is still there at the end is deleted."""
    unfinished = path.with_name(f"{UNFINISHED}{uuid.uuid4().hex}{path.suffix.lower()}")
    try:
        yield unfinished
    finally:
        _remove(unfinished)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


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
    except OSError:  # the file system has no hard links
        _move_without_links(finished, path)


def _move_without_links(finished: Path, path: Path) -> None:
    """Only who has made the hidden claim on a name may give it away. A claim that a kill leaves becomes stale."""
    claim = path.with_name(f"{UNFINISHED}{uuid.uuid5(uuid.NAMESPACE_URL, path.name).hex}")
    claim.touch(exist_ok=False)
    try:
        if os.path.lexists(path):
            raise FileExistsError(path)
        finished.replace(path)
    finally:
        claim.unlink()


def _move_folder(finished: Path, path: Path) -> None:
    """Raises FileExistsError; os.rename refuses all but an empty folder."""
    try:
        finished.rename(path)
    except OSError as error:
        if os.path.lexists(path):
            raise FileExistsError(path) from error
        raise
