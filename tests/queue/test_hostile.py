"""One hostile server among three: it is put aside, and all jobs are done."""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from batch import Batch, jobs_of
from fake_comfy import FakeComfy
from hostile import BEHAVIOURS, CHATTER, UNCLEAR, Lie, at, changed

from firstframe.queue.connection import Limits
from firstframe.queue.plan import Job, read_images
from firstframe.queue.progress import Bars
from firstframe.queue.rules import Rules

LIMITS = Limits(answer=4 << 20, message=1 << 16, output=2 << 20, seconds=1.0, rate=1e6)
RULES = Rules(in_flight=1, poll=0.2, give_up=5)
MOST_MEMORY = 200 << 20  # bytes more than before


def with_image(job: Job, folder: Path) -> Job:
    path = folder / "a.png"
    path.write_bytes(b"picture")
    return Job(job.id, job.graph, read_images(path)[0], None, None, job.seed)


def memory() -> int:
    """The most that this process has held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("lies", BEHAVIOURS.values(), ids=BEHAVIOURS)
def test_one_hostile_server_among_three(play: Callable[..., Batch], tmp_path: Path, lies: dict[str, Lie]) -> None:
    jobs = [with_image(job, tmp_path) for job in jobs_of(4, seconds=0.05)]
    before = memory()

    async def scene(batch: Batch, hostile: FakeComfy, *_: FakeComfy) -> None:
        hostile.lies = lies
        await batch.run(jobs, RULES, LIMITS, tries=2)
        batch.check_done_once(jobs)
        assert any(hostile.requests[route] for route in lies)
        assert {event["server"] for event in batch.events("done")} == {fake.url for fake in batch.fakes[1:]}

    batch = play(scene, servers=3)
    told = [note for note in batch.view.notes if note.startswith(f"gone: {batch.fakes[0].url}: ")]
    assert told or batch.events("released")
    assert all(note.isprintable() and len(note) < 500 for note in batch.view.notes)
    assert memory() - before < MOST_MEMORY
    assert not (tmp_path.parent / "above.mp4").exists() and not Path("/tmp/root.mp4").exists()
    assert not list(tmp_path.glob(".firstframe-*"))


@pytest.mark.parametrize("lie", UNCLEAR.values(), ids=UNCLEAR)
def test_an_unclear_answer_makes_nobody_do_a_job_twice(play: Callable[..., Batch], lie: Lie) -> None:
    jobs = jobs_of(4, seconds=0.05)

    async def scene(batch: Batch, *fakes: FakeComfy) -> None:
        fakes[0].lies = {"/prompt": lie}
        await batch.run(jobs, RULES, LIMITS, tries=2)
        batch.check_done_once(jobs)
        assert sum((fake.runs() for fake in fakes), Counter()) == {job.id: 1 for job in jobs}

    play(scene, servers=3)


@pytest.mark.parametrize("too_much", [False, True])
def test_chatter_on_the_websocket_changes_nothing(play: Callable[..., Batch], too_much: bool) -> None:
    async def scene(batch: Batch, fake: FakeComfy) -> None:
        fake.chatter = [*CHATTER, *([b" " * (LIMITS.message + 1)] if too_much else [])]
        await batch.run(jobs_of(3), RULES, LIMITS)
        batch.check_done_once(jobs_of(3))
        assert not batch.view.notes
        assert too_much or ("Save", 1, 2) in batch.view.steps

    play(scene)


def test_a_server_that_never_keeps_its_word_gets_no_job_twice(play: Callable[..., Batch]) -> None:
    jobs = jobs_of(10, seconds=0.1)

    async def scene(batch: Batch, hostile: FakeComfy, _: FakeComfy) -> None:
        hostile.lies = {"/history": changed(at("*.status", None))}
        await batch.run(jobs, RULES, LIMITS, tries=1)
        batch.check_done_once(jobs)
        times = Counter(post["extra_data"]["firstframe_queue"]["job"] for post in hostile.posted)
        assert len(times) > 1 and max(times.values()) == 1

    play(scene, servers=2)


def test_another_file_under_an_uploads_name(play: Callable[..., Batch], tmp_path: Path) -> None:
    jobs = [with_image(job, tmp_path) for job in jobs_of(3)]

    async def scene(batch: Batch, full: FakeComfy, _: FakeComfy) -> None:
        full.lies = {"/upload": changed(at("name", "a (1).png"))}
        await batch.run(jobs, RULES, LIMITS)
        batch.check_done_once(jobs)
        assert any("another file is in the way" in note for note in batch.view.notes)

    play(scene, servers=2)


def test_what_would_steer_the_terminal_is_shown(play: Callable[..., Batch], capsys: pytest.CaptureFixture[str]) -> None:
    steering = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202e[bold]\n"

    async def scene(batch: Batch, fake: FakeComfy) -> None:
        fake.lies = {"/history": changed(at("*.status.messages.*.1.exception_message", steering))}
        await batch.run(jobs_of(1, fault=True), RULES, LIMITS)
        (failed,) = batch.events("failed")
        assert r"\x1b[2J\x1b]0;owned\x07\x9b31m\u202e[bold]" in failed["reason"] and failed["reason"].isprintable()
        assert "\x1b" not in (batch.folder / "manifest.jsonl").read_text("utf-8")
        with Bars([fake.url], 1) as bars:
            bars.ended(f"job{steering}", {**failed, "reason": steering})
            bars.working(fake.url, steering, steering, 1, 2)
            bars.note(steering)

    play(scene)
    shown = capsys.readouterr().out
    assert shown.count(r"\x1b]0;owned\x07\x9b31m\u202e[bold]\n") == 3
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(shown)
