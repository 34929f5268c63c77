"""Fetching from a hub on loopback: what comes is what was published, or nothing changes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from firstframe.errors import WeightsError
from firstframe.weights.hub.fetch import fetch, remove_stale
from firstframe.weights.hub.folders import ModelFolders
from firstframe.weights.hub.manifest import Source, WeightSet
from firstframe.weights.hub.transfer import Patience

CONTENT = bytes(range(256)) * 32_768
HALF = 1 << 22
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
UNPINNED = replace(ENTRY, bytes=None, sha256=None)
TWO_SOURCES = replace(ENTRY, sources=(*ENTRY.sources, Source("another/place", "x.bin", "main")))
QUICK = Patience(tries=3, first_wait=0.01, silence=0.5, rate=1e5)
PART = ".firstframe-some.safetensors.part"


def get(hub: Any, folder: Path, entry: WeightSet = ENTRY) -> Path:
    return fetch(entry, folder, hub.endpoint, QUICK)


def begin(hub: Any, folder: Path, size: int = HALF) -> None:
    """Leave so much of the file in the folder, as a fetch that was ended does."""
    etag = hub.version
    (folder / PART).write_bytes(CONTENT[:size])
    url = f"{hub.endpoint}/someone/some-weights/resolve/main/folder/weights.safetensors"
    (folder / f"{PART}.json").write_text(json.dumps({"url": url, "etag": etag}))


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.endswith(".lock")}


def test_it_arrives_whole_and_leaves_nothing_else(hub: Any, tmp_path: Path) -> None:
    path = get(hub, tmp_path / "checkpoints")
    assert path == tmp_path / "checkpoints" / "some.safetensors" and path.read_bytes() == CONTENT
    assert left(path.parent) == {"some.safetensors"}
    assert "Range" not in hub.requests[0] and hub.requests[0]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("entry", [ENTRY, UNPINNED])
def test_what_is_there_is_not_fetched_again(hub: Any, tmp_path: Path, entry: WeightSet) -> None:
    get(hub, tmp_path, entry)
    get(hub, tmp_path, entry)
    assert len(hub.requests) == 1


@pytest.mark.parametrize("entry", [ENTRY, UNPINNED])
def test_it_goes_on_after_broken_connections(hub: Any, tmp_path: Path, entry: WeightSet) -> None:
    hub.breaks = [2_000_000] * 3
    assert get(hub, tmp_path, entry).read_bytes() == CONTENT
    assert hub.starts == [0, 2_000_000, 4_000_000, 6_000_000] and hub.sent == len(CONTENT)
    assert hub.requests[1]["If-Range"] == hub.version


def test_it_goes_on_as_long_as_something_comes(hub: Any, tmp_path: Path) -> None:
    hub.breaks = [500_000] * 16
    assert get(hub, tmp_path).read_bytes() == CONTENT
    assert len(hub.starts) == 17


def test_what_brings_nothing_is_given_up(hub: Any, tmp_path: Path) -> None:
    hub.breaks = [1000] * 100
    with pytest.raises(WeightsError, match="broke off"):
        get(hub, tmp_path)
    assert len(hub.requests) == QUICK.tries


def test_the_rest_of_an_earlier_run_is_all_that_is_asked_for(hub: Any, tmp_path: Path) -> None:
    begin(hub, tmp_path)
    assert get(hub, tmp_path).read_bytes() == CONTENT
    assert hub.sent == len(CONTENT) - HALF and left(tmp_path) == {"some.safetensors"}


def test_nothing_is_asked_for_where_all_has_arrived(hub: Any, tmp_path: Path) -> None:
    begin(hub, tmp_path, len(CONTENT))
    assert get(hub, tmp_path).read_bytes() == CONTENT
    assert not hub.requests


def no_ranges(hub: Any, _: Path) -> None:
    hub.knows_ranges = False


def another_version(hub: Any, _: Path) -> None:
    hub.etag = '"another"'


def weak_version(hub: Any, folder: Path) -> None:
    hub.etag = 'W/"weak"'


def wrong_start(hub: Any, _: Path) -> None:
    hub.wrong_start = 10


def no_note(_: Any, folder: Path) -> None:
    (folder / f"{PART}.json").unlink()


def damaged_note(_: Any, folder: Path) -> None:
    (folder / f"{PART}.json").write_bytes(b"\x00[null")


def damaged_bytes(_: Any, folder: Path) -> None:
    (folder / PART).write_bytes(bytes(HALF))


def too_many_bytes(_: Any, folder: Path) -> None:
    (folder / PART).write_bytes(bytes(len(CONTENT) + 1))


@pytest.mark.parametrize(
    "spoil",
    [
        no_ranges,
        another_version,
        weak_version,
        wrong_start,
        no_note,
        damaged_note,
        damaged_bytes,
        too_many_bytes,
    ],
)
def test_where_it_cannot_go_on_it_starts_over(hub: Any, tmp_path: Path, spoil: Callable[[Any, Path], None]) -> None:
    begin(hub, tmp_path)
    spoil(hub, tmp_path)
    assert get(hub, tmp_path).read_bytes() == CONTENT
    assert hub.starts[-1] == 0 and left(tmp_path) == {"some.safetensors"}


def test_a_version_that_changes_half_way(hub: Any, tmp_path: Path) -> None:
    old = replace(ENTRY, sha256=hashlib.sha256(bytes(len(CONTENT))).hexdigest())
    hub.content, hub.breaks = bytes(len(CONTENT)), [HALF, *[0] * 20]
    with pytest.raises(WeightsError, match="broke off"):
        get(hub, tmp_path, old)
    assert (tmp_path / PART).stat().st_size == HALF
    hub.content, hub.breaks = CONTENT, []
    assert get(hub, tmp_path).read_bytes() == CONTENT
    assert hub.starts[-1] == 0


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_source_out_of_order_for_a_moment(hub: Any, tmp_path: Path, status: int) -> None:
    hub.statuses = [status, status]
    assert get(hub, tmp_path).read_bytes() == CONTENT


def nothing_there(hub: Any) -> None:
    hub.missing = True


def out_of_order(hub: Any) -> None:
    hub.statuses = [500] * 100


def breaks_off(hub: Any) -> None:
    hub.breaks = [0] * 100


def loops(hub: Any) -> None:
    hub.redirects_to = hub


def says_nothing(hub: Any) -> None:
    hub.silent = True


def drips(hub: Any) -> None:
    hub.pause = 0.9


def other_content(hub: Any) -> None:
    hub.content = CONTENT[:-2] + b"ab"


def claims_more(hub: Any) -> None:
    hub.claimed = len(CONTENT) + 1


def login_page(hub: Any) -> None:
    hub.html = True


@pytest.mark.parametrize(
    "spoil",
    [
        nothing_there,
        out_of_order,
        breaks_off,
        loops,
        says_nothing,
        drips,
        other_content,
        claims_more,
        login_page,
    ],
)
def test_the_next_source_is_asked(
    hub: Any, other_hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Any], None]
) -> None:
    spoil(hub)
    asked = []

    def source(url: str, *of: Any) -> Any:
        asked.append(url)
        return download(url.replace(hub.endpoint, other_hub.endpoint) if "another" in url else url, *of)

    from firstframe.weights.hub import fetch as module

    download = module._from
    monkeypatch.setattr(module, "_from", source)
    assert get(hub, tmp_path, TWO_SOURCES).read_bytes() == CONTENT
    assert len(asked) == 2 and other_hub.starts == [0]


def test_a_port_that_nobody_hears(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"someone/some-weights.*another/place"):
        fetch(TWO_SOURCES, tmp_path, "http://127.0.0.1:9", QUICK)


def test_a_redirect_gets_the_range_and_not_the_token(
    hub: Any, other_hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    hub.redirects_to, other_hub.breaks = other_hub, [HALF]
    assert get(hub, tmp_path).read_bytes() == CONTENT
    assert {request["Authorization"] for request in hub.requests} == {"Bearer secret"}
    assert not any("Authorization" in request for request in other_hub.requests)
    assert other_hub.sent == len(CONTENT)


def test_a_mirror_is_named_by_the_environment(hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"{hub.endpoint}/")
    assert fetch(ENTRY, tmp_path, patience=QUICK).read_bytes() == CONTENT


def test_a_proxy_is_named_by_the_environment(hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", hub.endpoint)
    assert fetch(ENTRY, tmp_path, "http://hub.invalid", QUICK).read_bytes() == CONTENT
    assert hub.requests[0]["Host"] == "hub.invalid"


@pytest.mark.parametrize("wrong", ["content", "size", "page"])
def test_something_else_is_refused_and_what_was_there_stays(hub: Any, tmp_path: Path, wrong: str) -> None:
    (tmp_path / ENTRY.file).write_bytes(b"mine")
    if wrong == "content":
        hub.content = CONTENT[:-2] + b"ab"
    elif wrong == "size":
        hub.content = CONTENT[:-100]
    hub.html = wrong == "page"
    with pytest.raises(WeightsError) as refused:
        get(hub, tmp_path, replace(ENTRY, file="new.safetensors"))
    if wrong == "content":
        assert ENTRY.sha256 in str(refused.value) and hashlib.sha256(hub.content).hexdigest() in str(refused.value)
    assert (tmp_path / ENTRY.file).read_bytes() == b"mine"
    assert left(tmp_path) == {ENTRY.file}
    with pytest.raises(WeightsError, match="4 bytes"):  # a file that is there is not overwritten
        get(hub, tmp_path)


def test_an_unpinned_file_of_unknown_size_must_fit(hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("firstframe.weights.hub.transfer.shutil.disk_usage", lambda _: usage)
    with pytest.raises(WeightsError, match="room"):
        get(hub, tmp_path, UNPINNED)
    assert not (tmp_path / ENTRY.file).exists() and hub.sent < len(CONTENT)


def test_a_full_disk(hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("firstframe.weights.hub.fetch.shutil.disk_usage", lambda _: usage)
    with pytest.raises(WeightsError, match="room"):
        get(hub, tmp_path)
    assert not hub.requests


def test_only_what_is_missing_needs_room(hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(hub, tmp_path)
    (tmp_path / f"{PART}.old.part").write_bytes(CONTENT)  # of another file
    usage = shutil.disk_usage(tmp_path)._replace(free=len(CONTENT) - HALF)
    monkeypatch.setattr("firstframe.weights.hub.fetch.shutil.disk_usage", lambda _: usage)
    assert get(hub, tmp_path).read_bytes() == CONTENT
    monkeypatch.setattr("firstframe.weights.hub.fetch.shutil.disk_usage", lambda _: usage._replace(free=HALF - 1))
    begin(hub, tmp_path)
    (tmp_path / ENTRY.file).unlink()
    with pytest.raises(WeightsError, match="room"):
        get(hub, tmp_path)


def test_a_folder_that_cannot_be_written(hub: Any, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_bytes(b"a file")
    with pytest.raises(WeightsError, match="cannot be written"):
        get(hub, tmp_path / "checkpoints")


def test_two_at_once(hub: Any, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        paths = list(pool.map(lambda _: get(hub, tmp_path), range(2)))
    assert paths[0] == paths[1] and paths[0].read_bytes() == CONTENT
    assert len(hub.requests) == 1


def test_no_source_has_it(hub: Any, tmp_path: Path) -> None:
    hub.missing = True
    with pytest.raises(WeightsError, match=r"someone/some-weights.*404.*another/place.*404"):
        get(hub, tmp_path, TWO_SOURCES)


def test_offline_is_offline(hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsError, match="some-weights"):
        get(hub, tmp_path)
    assert not hub.requests


def test_old_partials_of_other_files_go(tmp_path: Path) -> None:
    names = (PART, f"{PART}.json", ".firstframe-other.ckpt.part", ".firstframe-other.ckpt.part.json", "mine.part")
    (tmp_path / "checkpoints").mkdir()
    for name in names:
        (tmp_path / "checkpoints" / name).write_bytes(b"half")
        os.utime(tmp_path / "checkpoints" / name, (0, 0))
    remove_stale([ENTRY], ModelFolders(tmp_path))
    assert left(tmp_path / "checkpoints") == {PART, f"{PART}.json", "mine.part"}


RUN = """
import json, signal, sys
from pathlib import Path
from firstframe.weights.hub.fetch import fetch
from firstframe.weights.hub.manifest import Source, WeightSet
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
fields = json.loads(sys.argv[1])
fields["sources"] = tuple(Source(**source) for source in fields["sources"])
fetch(WeightSet(**fields), Path(sys.argv[2]), sys.argv[3])
"""


@pytest.mark.parametrize("ended_by", [signal.SIGKILL, signal.SIGINT])
def test_a_process_that_is_ended_half_way(hub: Any, tmp_path: Path, ended_by: signal.Signals) -> None:
    hub.pause = 0.02
    command = [sys.executable, "-c", RUN, json.dumps(asdict(ENTRY)), str(tmp_path), hub.endpoint]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    part = tmp_path / PART
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size > HALF // 2):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(ended_by)
    process.wait(5)
    had = part.stat().st_size
    assert 0 < had < len(CONTENT)
    hub.pause, hub.sent = 0.0, 0
    assert get(hub, tmp_path).read_bytes() == CONTENT
    assert hub.starts == [0, had] and hub.requests[1]["Range"] == f"bytes={had}-"
