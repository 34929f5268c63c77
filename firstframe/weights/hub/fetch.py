"""Fetching published weights, when asked to, into ComfyUI's folders."""

from __future__ import annotations

import shutil
from pathlib import Path

from filelock import FileLock
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from ...errors import WeightsError
from .manifest import Source, WeightSet
from .verify import verify

_PARTS = ".firstframe-fetch"  # in the target's own folder, so that the last step is a rename


def fetch(entry: WeightSet, folder: Path, endpoint: str | None = None) -> Path:
    """Download ``entry`` into ``folder``; the finished file's path.

    What was begun is gone on with. The file gets its name only after its size and digest were compared with the
    manifest; until then, and where they differ, a file of that name that was there stays. A file that is there and
    verified is not fetched again.

    Args:
        endpoint: of a mirror of the hub.

    Raises WeightsError where there is no room, no source answers, or what came is not what was published.
    """
    target, parts = folder / entry.file, folder / _PARTS / entry.id
    parts.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(parts.with_suffix(".lock")):
        if target.exists() and verify(entry, target).verdict == "verified":
            return target
        parts.mkdir(exist_ok=True)
        _check_room(entry, parts)
        arrived = _from_first_source(entry, parts, endpoint)
        _verify_or_remove(entry, arrived)
        arrived.replace(target)
        shutil.rmtree(parts)
    return target


def _verify_or_remove(entry: WeightSet, arrived: Path) -> None:
    try:
        verify(entry, arrived)
    except WeightsError:
        arrived.unlink()
        raise


def _check_room(entry: WeightSet, parts: Path) -> None:
    begun = sum(file.stat().st_size for file in parts.rglob("*.incomplete"))
    free = shutil.disk_usage(parts).free
    if entry.bytes is not None and free < entry.bytes - begun:
        missing = entry.bytes - begun - free
        raise WeightsError(
            f"{parts}: {entry.id} needs {missing / 1e9:.2f} GB more than there is room for; nothing fetched"
        )


def _from_first_source(entry: WeightSet, parts: Path, endpoint: str | None) -> Path:
    reasons = []
    for source in entry.sources:
        try:
            return _download(source, parts, endpoint)
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            reasons.append(f"{source.repo}/{source.path}: {str(error).splitlines()[0]}")
    raise WeightsError(f"{entry.id} could not be fetched. " + "; ".join(reasons))


def _download(source: Source, parts: Path, endpoint: str | None) -> Path:
    path = hf_hub_download(source.repo, source.path, revision=source.revision, local_dir=parts, endpoint=endpoint)
    return Path(path)
