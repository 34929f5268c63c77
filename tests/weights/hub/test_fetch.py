"""Fetching from a hub on loopback: what comes is what was published, or nothing changes."""

from __future__ import annotations

import hashlib
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from firstframe.errors import WeightsError
from firstframe.weights.hub.fetch import fetch
from firstframe.weights.hub.manifest import Source, WeightSet

CONTENT = bytes(range(256)) * 100_000  # more than the hub's library keeps in memory before it writes
ENTRY = WeightSet(
    id="some-weights",
    role="test",
    file="some.safetensors",
    sources=(Source("someone/some-weights", "folder/weights.safetensors", "main"),),
    bytes=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    licence="MIT",
    layout=None,
    folder="checkpoints",
    node=None,
    notes="",
)


def test_it_arrives_whole_and_leaves_nothing_else(hub: Any, tmp_path: Path) -> None:
    path = fetch(ENTRY, tmp_path / "checkpoints", hub.endpoint)
    assert path == tmp_path / "checkpoints" / "some.safetensors" and path.read_bytes() == CONTENT
    assert sum(file.stat().st_size for file in path.parent.rglob("*") if file.is_file()) == len(CONTENT)


def test_what_is_there_and_verified_is_not_fetched_again(hub: Any, tmp_path: Path) -> None:
    fetch(ENTRY, tmp_path, hub.endpoint)
    before = len(hub.requests)
    fetch(ENTRY, tmp_path, hub.endpoint)
    assert len(hub.requests) == before


def test_it_goes_on_after_a_broken_connection(hub: Any, tmp_path: Path) -> None:
    hub.drop_after = 16_000_000
    assert fetch(ENTRY, tmp_path, hub.endpoint).read_bytes() == CONTENT
    assert max(start for _, start in hub.requests) > 0


@pytest.mark.parametrize("wrong", ["content", "size", "page"])
def test_something_else_is_refused_and_what_was_there_stays(hub: Any, tmp_path: Path, wrong: str) -> None:
    (tmp_path / ENTRY.file).write_bytes(b"mine")
    if wrong == "content":
        hub.content = CONTENT[:-2] + b"ab"
    elif wrong == "size":
        hub.content = CONTENT[:-100]
    hub.html = wrong == "page"
    with pytest.raises(WeightsError) as refused:
        fetch(replace(ENTRY, file="new.safetensors"), tmp_path, hub.endpoint)
    if wrong == "content":
        assert ENTRY.sha256 in str(refused.value) and hashlib.sha256(hub.content).hexdigest() in str(refused.value)
    assert (tmp_path / ENTRY.file).read_bytes() == b"mine"
    assert not (tmp_path / "new.safetensors").exists()
    with pytest.raises(WeightsError, match="4 bytes"):  # a file that is there is not overwritten
        fetch(ENTRY, tmp_path, hub.endpoint)


def test_a_full_disk(hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("firstframe.weights.hub.fetch.shutil.disk_usage", lambda _: usage)
    with pytest.raises(WeightsError, match="room"):
        fetch(ENTRY, tmp_path, hub.endpoint)
    assert not hub.requests


def test_two_at_once(hub: Any, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        paths = list(pool.map(lambda _: fetch(ENTRY, tmp_path, hub.endpoint), range(2)))
    assert paths[0] == paths[1] and paths[0].read_bytes() == CONTENT


def test_no_source_has_it(hub: Any, tmp_path: Path) -> None:
    hub.missing, other = True, Source("another/place", "x.bin", "main")
    with pytest.raises(WeightsError, match=r"someone/some-weights.*another/place"):
        fetch(replace(ENTRY, sources=(*ENTRY.sources, other)), tmp_path, hub.endpoint)


def test_offline_is_offline(hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match="some-weights"):
        fetch(ENTRY, tmp_path, hub.endpoint)
    assert not hub.requests
