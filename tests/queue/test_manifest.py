from __future__ import annotations

import csv
from pathlib import Path

import pytest

from firstframe.errors import FirstFrameError
from firstframe.queue.manifest import Manifest, done_jobs, read_events, write_csv
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


def test_what_is_no_event_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_text('{"event": "run", "client": "x"}\n[1]\n')
    with pytest.raises(FirstFrameError, match=r"manifest.jsonl, line 2"):
        Manifest(path)


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
