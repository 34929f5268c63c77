"""Published weight sets: what they are, where they come from, and how to be sure of them.

There is one JSON file for each in ``weights_manifest/`` beside the package. A size or digest that nobody states is
null there, and "unpinned" to the user.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from ...errors import WeightsError

HUB = "https://huggingface.co"
FOLDER = Path(__file__).resolve().parents[3] / "weights_manifest"


@dataclass(frozen=True)
class Source:
    """A file in a repository of the Hugging Face hub, at a revision."""

    repo: str
    path: str
    revision: str

    def url(self, endpoint: str = HUB) -> str:
        """Address of the file, on the hub or on a mirror of it."""
        return f"{endpoint.rstrip('/')}/{self.repo}/resolve/{self.revision}/{quote(self.path)}"


@dataclass(frozen=True)
class WeightSet:
    """One published file.

    Attributes:
        id: its name here.
        role: what it is for, in a word or two.
        file: its name in ComfyUI's folder.
        sources: where to get it; the first one is tried first.
        bytes: its exact size, None where it is not known.
        sha256: its digest in hex, None where it is not known.
        licence: as its authors state it.
        layout: name of the layout that it is in, None where FirstFrame does not read it itself.
        folder: of ComfyUI's models.
        node: the node that loads it, None where neither FirstFrame nor ComfyUI has one.
        notes: what else there is to know.
        bundles: names under which it is fetched together with others.
    """

    id: str
    role: str
    file: str
    sources: tuple[Source, ...]
    bytes: int | None
    sha256: str | None
    licence: str
    layout: str | None
    folder: str
    node: str | None
    notes: str
    bundles: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in (self.id, self.file, self.folder):
            if name in ("", ".", "..") or Path(name).name != name:
                raise WeightsError(f"{name!r} in the manifest is not a plain name: nothing is written outside a folder")

    @property
    def pinned(self) -> bool:
        """Whether what was fetched can be verified."""
        return self.sha256 is not None


def published() -> list[WeightSet]:
    """Every entry of the manifest, by id."""
    return sorted(_entries(), key=lambda entry: entry.id)


def weight_set(id: str) -> WeightSet:
    """The entry with this id. Raises WeightsError where there is none, naming those that there are."""
    entries = {entry.id: entry for entry in _entries()}
    if id not in entries:
        there_are = ", ".join((*sorted(entries), *bundles()))
        raise WeightsError(f"there is no weight set {id!r}; there are {there_are}")
    return entries[id]


def bundles() -> dict[str, list[WeightSet]]:
    """What is fetched together under one name, by that name."""
    entries = published()
    names = sorted({name for entry in entries for name in entry.bundles})
    return {name: [entry for entry in entries if name in entry.bundles] for name in names}


def named(names: Iterable[str]) -> list[WeightSet]:
    """The entries that ids and names of bundles stand for, each once. Raises WeightsError where there is none."""
    together = bundles()
    found = [entry for name in names for entry in together.get(name) or [weight_set(name)]]
    return list({entry.id: entry for entry in found}.values())


def _entries() -> Iterator[WeightSet]:
    for file in FOLDER.glob("*.json"):
        if file.name != "schema.json":
            fields = json.loads(file.read_text("utf-8"))
            sources = tuple(Source(**source) for source in fields["sources"])
            yield WeightSet(**{**fields, "sources": sources, "bundles": tuple(fields.get("bundles", ()))})
