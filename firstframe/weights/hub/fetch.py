"""Fetching published weights, when asked to, into ComfyUI's folders."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import requests
from filelock import FileLock

from ...clips.leftovers import PREFIX, part_name, remove_leftovers
from ...errors import WeightsError
from .folders import ModelFolders
from .manifest import HUB, WeightSet
from .partial import Partial
from .transfer import Patience, TransferError, download, open_session
from .verify import verify


def fetch(entry: WeightSet, folder: Path, endpoint: str | None = None, patience: Patience | None = None) -> Path:
    """Download ``entry`` into ``folder``; the finished file's path.

    What an earlier run has brought, however it ended, is not asked for again. The file gets its name only after its
    size and digest were compared with the manifest. A file that is there is not fetched again.

    Args:
        entry: What to fetch.
        folder: Where to.
        endpoint: Of a mirror of the hub; None takes HF_ENDPOINT, or the hub. HF_TOKEN and the usual variables for
            proxies are obeyed as well.
        patience: With a source that breaks off.

    Raises:
        WeightsError: There is no room, no source answers, what came is not what was published, or the file that is
            there is another one.
    """
    target = folder / entry.file
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{PREFIX}{entry.file}.lock"):
            if verify(entry, target).verdict == "missing":
                partial = Partial(folder / part_name(entry.file))
                _check_may_begin(entry, partial)
                _from_first_source(entry, partial, endpoint or os.environ.get("HF_ENDPOINT") or HUB, patience)
                partial.finish(target)
    except OSError as error:
        raise WeightsError(f"{target}: cannot be written: {error}") from error
    return target


def remove_stale(entries: Iterable[WeightSet], folders: ModelFolders) -> None:
    """Delete what earlier fetches of other files left half-way, where it is older than a day."""
    targets = [folders.target(entry.folder) / entry.file for entry in entries]
    keep = {path for file in targets for path in _own_paths(Partial(file.with_name(part_name(file.name))))}
    for folder in {file.parent for file in targets}:
        remove_leftovers(folder, keep)


def _own_paths(partial: Partial) -> tuple[Path, Path]:
    return partial.path, partial.note


def _check_may_begin(entry: WeightSet, partial: Partial) -> None:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise WeightsError(f"HF_HUB_OFFLINE is set: {entry.id} is not fetched")
    missing = (entry.bytes or 0) - partial.size - shutil.disk_usage(partial.path.parent).free
    if missing > 0:
        raise WeightsError(
            f"{partial.path.parent}: {entry.id} needs {missing / 1e9:.2f} GB more than there is room for; "
            "nothing fetched"
        )


def _from_first_source(entry: WeightSet, partial: Partial, endpoint: str, patience: Patience | None) -> None:
    """Try one source after another."""
    reasons = []
    with open_session(os.environ.get("HF_TOKEN")) as session:
        for source in entry.sources:
            try:
                return _from(source.url(endpoint), entry, partial, session, patience)
            except TransferError as error:
                reasons.append(f"{source.repo}/{source.path}: {error}")
    raise WeightsError(f"{entry.id} could not be fetched. " + "; ".join(reasons))


def _from(url: str, entry: WeightSet, partial: Partial, session: requests.Session, patience: Patience | None) -> None:
    """Bring what is published into ``partial``. Where an earlier run began it and it is not that, once more from the
    start."""
    begun_before = partial.size > 0
    download(session, url, partial, entry.bytes, patience)
    try:
        verify(entry, partial.path)
    except WeightsError as error:
        partial.remove()
        if not begun_before:
            raise TransferError(str(error)) from error
        _from(url, entry, partial, session, patience)
