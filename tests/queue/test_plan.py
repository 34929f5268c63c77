from __future__ import annotations

import os
from itertools import chain
from pathlib import Path

import pytest

from firstframe.errors import FirstFrameError
from firstframe.queue.plan import (
    Inputs,
    graph_id,
    make_jobs,
    parse_seeds,
    parse_shard,
    read_images,
    read_prompts,
)
from firstframe.queue.workflow import Place, read_workflow

GRAPH = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "x.png"}},
    "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "y"}},
    "3": {"class_type": "KSampler", "inputs": {"seed": 0, "image": ["1", 0], "positive": ["2", 0]}},
}
INPUTS = Inputs(Place("1", "image"), Place("2", "text"), (Place("3", "seed"),))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for name in ("b.png", "a.JPG", "a.png"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "notes.txt").write_text("not an image")
    return tmp_path


def test_every_combination_is_one_job_with_its_own_graph_and_name(images: Path) -> None:
    jobs = make_jobs(GRAPH, INPUTS, read_images(images), ["up", "down"], [5, 6])
    assert len(jobs) == 3 * 2 * 2 == len({job.id for job in jobs}) == len({job.name for job in jobs})
    for job in jobs:
        assert job.graph["1"]["inputs"]["image"] == f"firstframe_{job.image.sha256}{job.image.path.suffix.lower()}"
        assert job.graph["2"]["inputs"]["text"] == job.prompt == ["up", "down"][job.prompt_index - 1]
        assert job.graph["3"]["inputs"]["seed"] == job.seed
    assert jobs[0].name == f"a.JPG_p001_s5_{jobs[0].id[:8]}"
    assert jobs[-1].name == f"b_p002_s6_{jobs[-1].id[:8]}"


def test_what_is_not_given_stays_as_it_is() -> None:
    (job,) = make_jobs(GRAPH, Inputs(), [], [], [])
    assert job.graph == GRAPH and job.name == job.id[:8]


def test_a_job_is_what_its_graph_computes(images: Path) -> None:
    (first, *_) = read_images(images)
    before = make_jobs(GRAPH, INPUTS, [first], ["up"], [])
    titled = {id: {**node, "_meta": {"title": "t"}} for id, node in GRAPH.items()}
    assert [job.id for job in make_jobs(titled, INPUTS, [first], ["up"], [])] == [before[0].id]
    first.path.write_bytes(b"another image")
    (changed, *_) = read_images(images)
    assert make_jobs(GRAPH, INPUTS, [changed], ["up"], [])[0].id != before[0].id
    assert graph_id(GRAPH) != graph_id({**GRAPH, "2": {"class_type": "Other", "inputs": {"text": "y"}}})


def test_the_same_twice_is_one_job(images: Path) -> None:
    (images / "copy.png").write_bytes((images / "b.png").read_bytes())
    assert len(make_jobs(GRAPH, INPUTS, read_images(images), ["up", "up"], [1])) == 3


@pytest.mark.parametrize(("text", "seeds"), [("1,2,3", [1, 2, 3]), ("8-10,2", [8, 9, 10, 2]), ("7", [7])])
def test_seeds(text: str, seeds: list[int]) -> None:
    assert parse_seeds(text) == seeds


def test_the_highest_seed() -> None:
    assert parse_seeds(str(2**64 - 1)) == [2**64 - 1]


@pytest.mark.parametrize(
    "text", ["x", "1,", "3-1", "1-2-3", "-5", str(2**64), "0-1000000", f"0-{2**64 - 1}", "9" * 5000]
)
def test_seeds_that_are_none(text: str) -> None:
    with pytest.raises(FirstFrameError, match="--seeds"):
        parse_seeds(text)


def test_shards_are_all_jobs_once() -> None:
    jobs = list(range(10))
    parts = [jobs[number - 1 :: count] for number, count in map(parse_shard, ("1/3", "2/3", "3/3"))]
    assert sorted(chain(*parts)) == jobs
    for text in ("0/3", "4/3", "1", "a/b"):
        with pytest.raises(FirstFrameError, match="--shard"):
            parse_shard(text)


def test_prompts_and_images_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("# first\n\n  a fish \na star\n", "utf-8")
    assert read_prompts(tmp_path / "prompts.txt") == ["a fish", "a star"]
    (tmp_path / "empty.txt").write_text("# nothing\n")
    for name in ("empty.txt", "missing.txt"):
        with pytest.raises(FirstFrameError, match=name):
            read_prompts(tmp_path / name)
    with pytest.raises(FirstFrameError, match="no images"):
        read_images(tmp_path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(FirstFrameError, match=r"pipe\.txt"):
        read_prompts(tmp_path / "pipe.txt")
    with pytest.raises(FirstFrameError, match=r"pipe\.txt"):
        read_workflow(tmp_path / "pipe.txt")


def test_a_images_name_becomes_one_that_any_terminal_takes(tmp_path: Path) -> None:
    (tmp_path / "a\x1b[2J\nb.png").write_bytes(b"picture")
    assert read_images(tmp_path)[0].label == "a_[2J_b"
