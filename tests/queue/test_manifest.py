from __future__ import annotations

import csv
from pathlib import Path

import pytest

from firstframe.errors import FirstFrameError
from firstframe.queue.events import read_events
from firstframe.queue.manifest import Manifest, done_jobs, write_csv
from firstframe.queue.plan import Job

JOBS = [Job(id, {}, None, 1, "a fish, red", seed) for seed, id in enumerate(("a", "b", "c"))]


def test_a_line_that_a_crash_tore_is_dropped_and_the_rest_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    with Manifest(path) as manifest:
        client = manifest.begin()
        manifest.add("sent", job="a", prompt_id="1", server="s")
    with path.open("a") as file:
        file.write('{"event": "done", "job": "a", "fi')
    with Manifest(path) as manifest:
        assert manifest.open()["a"]["prompt_id"] == "1"
        assert manifest.begin() == client
    assert [event["event"] for event in read_events(path)] == ["run", "sent", "run"]


GOOD = '{"event": "run", "time": 1, "client": "x"}'
DAMAGED = {
    "another shape": b"[1]",
    "cut": GOOD[:20].encode(),
    "zeros of a power cut": bytes(40),
    "no text": b"\xff\xfe",
    "null": b"null",
    "deep": b"[" * 100_000,
    "without a time": b'{"event": "run", "client": "x"}',
    "time not a number": b'{"event": "run", "time": NaN, "client": "x"}',
    "without an id": b'{"event": "sent", "time": 1, "job": "a", "server": "s"}',
    "files of another shape": b'{"event": "done", "time": 1, "job": "a", "files": [null]}',
    "kind of another shape": b'{"event": ["run"], "time": 1}',
}


@pytest.mark.parametrize("damaged", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_line_is_set_aside_and_named(tmp_path: Path, damaged: bytes) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_bytes(b"\n".join([GOOD.encode(), damaged, GOOD.encode(), b""]))
    assert done_jobs(tmp_path) == set()  # who only reads does not stumble over it either
    with Manifest(path) as manifest:
        assert len(manifest.events) == 2
        assert "manifest.jsonl: line 2 is damaged" in manifest.warning and "manifest.damaged" in manifest.warning
        manifest.begin()
    assert (tmp_path / "manifest.damaged").read_bytes() == damaged + b"\n"
    assert [event["event"] for event in read_events(path)] == ["run", "run", "run"]
    with Manifest(path) as manifest:
        assert not manifest.warning


def test_what_a_damaged_line_said_is_done_again(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    with Manifest(path) as manifest:
        manifest.begin()
        for job in "ab":
            manifest.add("sent", job=job, prompt_id=job, server="s")
            manifest.add("done", job=job, files=[])
    path.write_bytes(path.read_bytes().replace(b'"event": "done"', b'"event": "do\x00e"', 1))
    with Manifest(path) as manifest:
        assert manifest.open().keys() == {"a"} and done_jobs(tmp_path) == {"b"}


@pytest.mark.parametrize("end", ["done", "failed", "released"])
def test_a_job_is_open_from_sending_to_its_end(tmp_path: Path, end: str) -> None:
    with Manifest(tmp_path / "manifest.jsonl") as manifest:
        manifest.add("sent", job="a", prompt_id="1", server="s")
        manifest.add("sent", job="b", prompt_id="2", server="s")
        manifest.add(end, job="a")
        assert manifest.open().keys() == {"b"}
        manifest.add("sent", job="a", prompt_id="3", server="s")
        assert manifest.open()["a"]["prompt_id"] == "3"


def test_two_clients_do_not_share_a_manifest(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    with Manifest(path), pytest.raises(FirstFrameError, match="another firstframe queue"):
        Manifest(path)
    with Manifest(path):
        pass


def test_done_is_what_is_there_whole_in_any_shard(tmp_path: Path) -> None:
    for shard, job in enumerate("abc"):
        with Manifest(tmp_path / f"manifest.{shard + 1}-of-3.jsonl") as manifest:
            manifest.add("done", job=job, files=[{"file": f"{job}.mp4", "bytes": 4}])
    (tmp_path / "a.mp4").write_bytes(b"film")
    (tmp_path / "b.mp4").write_bytes(b"fil")
    assert done_jobs(tmp_path) == {"a"}


def test_the_table_has_a_row_for_each_file_and_each_job_without_one(tmp_path: Path) -> None:
    files = [{"file": f"a_{number}.png", "bytes": 1, "sha256": "0"} for number in (1, 2)]
    events = [
        {"event": "failed", "job": "a", "reason": "before"},
        {"event": "done", "job": "a", "files": files, "server": "s"},
        {"event": "failed", "job": "b", "reason": "node 1"},
    ]
    write_csv(tmp_path / "manifest.csv", JOBS, events)
    with (tmp_path / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["job"], row["state"], row["file"], row["seed"]) for row in rows] == [
        ("a", "done", "a_1.png", "0"),
        ("a", "done", "a_2.png", "0"),
        ("b", "failed", "", "1"),
        ("c", "not done", "", "2"),
    ]
    assert rows[0]["prompt"] == "a fish, red" and rows[0]["reason"] == "" and rows[2]["reason"] == "node 1"
