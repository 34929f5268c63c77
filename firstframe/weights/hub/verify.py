"""Whether a file is what was published."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tqdm.auto import tqdm

from ...errors import WeightsError
from .manifest import WeightSet

Verdict = Literal["verified", "unpinned", "missing"]
_CHUNK = 1 << 22


@dataclass(frozen=True)
class Checked:
    """A file and what can be said of it: "unpinned" is there, and nobody states what it should be."""

    entry: WeightSet
    path: Path
    verdict: Verdict


def verify(entry: WeightSet, path: Path) -> Checked:
    """Compare size and digest with the manifest.

    Raises WeightsError, with both sizes or both digests, where they differ; the file is left as it is.
    """
    if not path.is_file():
        return Checked(entry, path, "missing")
    size = path.stat().st_size
    if entry.bytes is not None and size != entry.bytes:
        raise WeightsError(f"{path}: has {size:,} bytes, {entry.id} has {entry.bytes:,}; it may be cut off")
    if entry.sha256 is None:
        return Checked(entry, path, "unpinned")
    found = sha256(path)
    if found != entry.sha256:
        raise WeightsError(f"{path}: its sha256 is {found}, that of {entry.id} is {entry.sha256}; it is another file")
    return Checked(entry, path, "verified")


def sha256(path: Path) -> str:
    """The digest of a file in hex, with a progress bar."""
    digest = hashlib.sha256()
    with path.open("rb") as file, tqdm(total=path.stat().st_size, desc=path.name, unit="B", unit_scale=True) as bar:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()
