"""What goes wrong between a client and its servers, with a small server that goes wrong on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from batch import RULES, Batch, jobs_of, make_job, until
from fake_comfy import FakeComfy

from firstframe.errors import FirstFrameError
from firstframe.queue.manifest import Manifest
from firstframe.queue.plan import Job, read_images
from firstframe.queue.rules import Rules
from firstframe.queue.run import Run
from firstframe.queue.tasks import stop


def test_jobs_are_shared_out_and_their_progress_is_told(play: Callable[..., Batch]) -> None:
    async def scene(batch: Batch, *fakes: FakeComfy) -> None:
        await batch.run(jobs_of(12))
        batch.check_done_once(jobs_of(12))
        runs = [fake.runs() for fake in fakes]
        assert all(runs) and (runs[0] + runs[1]) == {job.id: 1 for job in jobs_of(12)}
        assert ("Save", 1, 2) in batch.view.steps
        assert {event["seconds"] for event in batch.events("done")} == {2.5}

    play(scene, servers=2)


@pytest.mark.parametrize("route", ["/prompt", "/queue", "/history", "/view", "/upload"])
@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_server_out_of_order_for_a_moment(
    play: Callable[..., Batch], tmp_path: Path, route: str, status: int
) -> None:
    image = tmp_path / "a.png"
    image.write_bytes(b"picture")
    (read,) = read_images(image)
    job = make_job(1)
    job = Job(job.id, job.graph, read, None, None, 1)

    async def scene(batch: Batch, fake: FakeComfy) -> None:
        if route != "/queue":
            fake.statuses[route] = [status, status]
        else:
            fake.paused = True
            asyncio.get_running_loop().call_later(0.1, fake.statuses.update, {route: [status, status]})
            asyncio.get_running_loop().call_later(0.2, setattr, fake, "paused", False)
        await batch.run([job])
        batch.check_done_once([job])
        assert fake.runs() == {job.id: 1} and not batch.events("released")
        assert fake.inputs == {read.upload_name: b"picture"}

    play(scene)


def test_a_lost_answer_does_not_make_a_job_run_twice(play: Callable[..., Batch]) -> None:
    async def scene(batch: Batch, fake: FakeComfy) -> None:
        fake.lose_answers = 2
        await batch.run(jobs_of(3))
        batch.check_done_once(jobs_of(3))
        assert len(fake.posted) == 3 and set(fake.runs().values()) == {1}

    play(scene)


def test_without_websocket_the_history_tells(play: Callable[..., Batch]) -> None:
    async def scene(batch: Batch, fake: FakeComfy) -> None:
        fake.closes_sockets = True
        await batch.run(jobs_of(3))
        batch.check_done_once(jobs_of(3))

    play(scene)


def test_what_a_server_refuses_is_not_sent_again(play: Callable[..., Batch]) -> None:
    async def scene(batch: Batch, fake: FakeComfy) -> None:
        fake.refuses = True
        error = {"type": "value_not_in_list", "message": "Value not in list", "details": "sampler: 'x'"}
        fake.node_errors = {"8": {"class_type": "KSampler", "errors": [error], "dependent_outputs": ["2"]}}
        await batch.run(jobs_of(2))
        assert len(fake.posted) == 2 and not batch.events("done")
        for failed in batch.events("failed"):
            assert failed["reason"] == "node 8 (KSampler): Value not in list: sampler: 'x'"
            assert (failed["node_id"], failed["node_type"]) == ("8", "KSampler")

    play(scene)


def test_what_is_refused_without_a_node_is_told_too(play: Callable[..., Batch]) -> None:
    async def scene(batch: Batch, fake: FakeComfy) -> None:
        fake.refuses = True
        await batch.run(jobs_of(1))
        assert [event["reason"] for event in batch.events("failed")] == ["Prompt outputs failed"]

    play(scene)


def test_what_is_refused_in_part_does_not_run(play: Callable[..., Batch]) -> None:
    async def scene(batch: Batch, fake: FakeComfy) -> None:
        fake.paused = True
        fake.node_errors = {"8": {"class_type": "Save2", "errors": [{"message": "Missing", "details": "x"}]}}
        await batch.run(jobs_of(1))
        assert "node 8 (Save2): Missing: x" in batch.events("failed")[0]["reason"]
        assert not fake.pending

    play(scene)


def test_a_fault_is_told_and_the_rest_is_done(play: Callable[..., Batch]) -> None:
    faulty = make_job(99, fault=True)

    async def scene(batch: Batch, fake: FakeComfy) -> None:
        await batch.run([faulty, *jobs_of(3)])
        batch.check_done_once(jobs_of(3))
        (failed,) = batch.events("failed")
        assert failed["job"] == faulty.id and failed["reason"] == "node 1 (Make): ValueError: no"
        assert len(fake.posted) == 4

    play(scene)


def test_a_download_that_breaks_off(play: Callable[..., Batch]) -> None:
    async def scene(batch: Batch, fake: FakeComfy) -> None:
        fake.breaks = 2
        await batch.run(jobs_of(1))
        batch.check_done_once(jobs_of(1))

    play(scene)


def test_a_result_that_the_server_has_lost(play: Callable[..., Batch]) -> None:
    async def scene(batch: Batch, fake: FakeComfy) -> None:
        fake.missing_files = True
        await batch.run(jobs_of(1))
        assert "404" in batch.events("failed")[0]["reason"]

    play(scene)


def test_a_server_that_was_restarted_gets_its_jobs_again(play: Callable[..., Batch]) -> None:
    async def scene(batch: Batch, fake: FakeComfy) -> None:
        fake.paused = True
        running = asyncio.create_task(batch.run(jobs_of(3)))
        await until(lambda: len(fake.pending) == 2)
        fake.restart()
        fake.paused = False
        await running
        batch.check_done_once(jobs_of(3))
        assert len(batch.events("released")) == 2 and len(fake.posted) == 5

    play(scene)


def test_a_job_that_is_lost_again_and_again_is_given_up(play: Callable[..., Batch]) -> None:
    async def scene(batch: Batch, fake: FakeComfy) -> None:
        fake.deaf = True
        await batch.run(jobs_of(1))
        assert len(fake.posted) == RULES.attempts
        assert "sent 3 times" in batch.events("failed")[0]["reason"]

    play(scene)


def test_what_a_dead_server_leaves_goes_to_the_others(play: Callable[..., Batch]) -> None:
    jobs = jobs_of(10)

    async def scene(batch: Batch, dead: FakeComfy, alive: FakeComfy) -> None:
        dead.paused = True
        running = asyncio.create_task(batch.run(jobs))
        await until(lambda: len(dead.pending) == 2)
        dead.down = True
        await running
        batch.check_done_once(jobs)
        assert alive.runs() == {job.id: 1 for job in jobs}

    play(scene, servers=2)


def test_a_server_that_comes_back_does_not_do_what_others_have(play: Callable[..., Batch]) -> None:
    jobs = jobs_of(8, seconds=0.4)

    async def scene(batch: Batch, away: FakeComfy, other: FakeComfy) -> None:
        away.paused = True
        foreign = {"prompt_id": "theirs", "prompt": make_job(50).graph}
        running = asyncio.create_task(batch.run(jobs))
        await until(lambda: len(away.pending) == 2)
        away.queue(foreign)
        left = {item[1] for item in away.pending} - {"theirs"}
        away.down = True
        taken_over = {event["job"] for event in batch.manifest.open().values() if event["prompt_id"] in left}
        await until(lambda: len(taken_over & {event["job"] for event in batch.events("sent")[4:]}) == 2)
        away.down = False
        await until(lambda: len(batch.events("cancelled")) == 2)
        assert not left & {item[1] for item in away.pending}
        assert "theirs" in {item[1] for item in away.pending}
        away.paused = False
        await running
        batch.check_done_once(jobs)
        assert not left & away.history.keys()

    play(scene, servers=2)


def test_a_server_that_was_away_for_a_while_still_has_its_jobs(play: Callable[..., Batch]) -> None:
    async def scene(batch: Batch, fake: FakeComfy) -> None:
        running = asyncio.create_task(batch.run(jobs_of(2, seconds=0.3), Rules(poll=0.2, give_up=30)))
        await until(lambda: fake.running)
        fake.down = True
        await until(lambda: len(batch.events("released")) == 2 and len(fake.history) == 2)
        fake.down = False
        await running
        batch.check_done_once(jobs_of(2, seconds=0.3))
        assert len(fake.posted) == 2

    play(scene)


def test_without_any_server_it_stops_and_later_goes_on(play: Callable[..., Batch]) -> None:
    async def scene(batch: Batch, fake: FakeComfy) -> None:
        running = asyncio.create_task(batch.run(jobs_of(4, seconds=0.2)))
        await until(lambda: fake.running)
        fake.down = True
        await running
        assert any("no server" in note for note in batch.view.notes)
        with pytest.raises(FirstFrameError, match="no server answers"):
            await batch.run(jobs_of(4, seconds=0.2))
        fake.down = False
        await batch.run(jobs_of(4, seconds=0.2))
        batch.check_done_once(jobs_of(4, seconds=0.2))
        assert set(fake.runs().values()) == {1}

    play(scene)


def test_a_client_that_crashed_finds_its_jobs_again(
    play: Callable[..., Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = jobs_of(6, seconds=0.1)

    async def no_farewell(*_: Any) -> None: ...

    async def scene(batch: Batch, *fakes: FakeComfy) -> None:
        with monkeypatch.context() as crash:
            crash.setattr(Run, "_cancel_open", no_farewell)  # a client that is killed does not say goodbye
            running = asyncio.create_task(batch.run(jobs))
            await until(lambda: len(batch.events("done") if hasattr(batch, "manifest") else []) >= 1)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        before = len(batch.events("done"))
        assert before < len(jobs)
        await asyncio.sleep(0.3)  # some end while nobody looks
        await batch.run(jobs)
        batch.check_done_once(jobs)
        assert sum((fake.runs() for fake in fakes), type(fakes[0].runs())()) == {job.id: 1 for job in jobs}
        await batch.run(jobs)
        assert sum(len(fake.posted) for fake in fakes) == len(jobs)

    play(scene, servers=2)


def test_a_job_that_never_arrived_is_sent_by_the_next_client(play: Callable[..., Batch]) -> None:
    (job,) = jobs_of(1)

    async def scene(batch: Batch, fake: FakeComfy) -> None:
        with Manifest(batch.folder / "manifest.jsonl") as manifest:
            manifest.add("sent", job=job.id, prompt_id="nobody-got-it", server=fake.url)
        await batch.run([job])
        batch.check_done_once([job])
        assert len(fake.posted) == 1

    play(scene)


@pytest.mark.parametrize("theirs_runs", [True, False])
def test_a_cancelled_client_takes_its_jobs_along_and_no_others(play: Callable[..., Batch], theirs_runs: bool) -> None:
    jobs = jobs_of(4, seconds=20)
    theirs = {"prompt_id": "theirs", "prompt": make_job(50, seconds=0.3).graph}

    async def scene(batch: Batch, fake: FakeComfy) -> None:
        if theirs_runs:
            fake.queue(theirs)
            await until(lambda: fake.running)
        running = asyncio.create_task(batch.run(jobs))
        await until(lambda: len(fake.pending) + len(fake.running) - theirs_runs == 2)
        if not theirs_runs:
            await until(lambda: fake.running)
            fake.queue(theirs)
        ours = fake.running[0][1]
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert fake.interrupts == ([] if theirs_runs else [{"prompt_id": ours}])
        assert {event["prompt_id"] for event in batch.events("cancelled")} == {
            event["prompt_id"] for event in batch.events("sent")
        }
        await until(lambda: "theirs" in fake.history and not fake.running)
        assert fake.history["theirs"]["outputs"]["2"]["images"] and not fake.pending

    play(scene)


def test_what_ended_before_it_could_be_cancelled_is_not_done_twice(play: Callable[..., Batch]) -> None:
    (job,) = jobs_of(1)

    async def scene(batch: Batch, fake: FakeComfy) -> None:
        body = {"prompt_id": "made", "prompt": job.graph, "extra_data": {"firstframe_queue": {"job": job.id}}}
        fake.queue(body)
        await until(lambda: "made" in fake.history)
        with Manifest(batch.folder / "manifest.jsonl") as manifest:
            manifest.add("sent", job=job.id, prompt_id="made", server=fake.url)
            manifest.add("cancelled", job=job.id, prompt_id="made", server=fake.url)
        await batch.run([job])
        batch.check_done_once([job])
        assert not fake.posted

    play(scene)


def test_what_a_crashed_client_left_at_a_server_that_dies_as_well(play: Callable[..., Batch]) -> None:
    jobs = jobs_of(3)

    async def scene(batch: Batch, dead: FakeComfy, alive: FakeComfy) -> None:
        dead.paused = True
        with Manifest(batch.folder / "manifest.jsonl") as manifest:
            for job in jobs:
                manifest.add("sent", job=job.id, prompt_id=f"left-{job.id}", server=dead.url)
                dead.queue({"prompt_id": f"left-{job.id}", "prompt": job.graph})
        running = asyncio.create_task(batch.run(jobs, Rules(in_flight=1, poll=0.2)))
        await until(lambda: hasattr(batch, "manifest") and len(batch.events("sent")) == 6)
        dead.down = True
        await running
        batch.check_done_once(jobs)
        assert alive.runs() == {job.id: 1 for job in jobs}

    play(scene, servers=2)


def test_what_was_sent_to_a_server_that_is_away_is_cancelled_when_it_is_back(play: Callable[..., Batch]) -> None:
    jobs = jobs_of(10, seconds=0.3)
    job = jobs[0]

    async def scene(batch: Batch, away: FakeComfy, other: FakeComfy) -> None:
        with Manifest(batch.folder / "manifest.jsonl") as manifest:
            manifest.add("sent", job=job.id, prompt_id="left", server=away.url)
        away.queue({"prompt_id": "left", "prompt": job.graph})
        away.paused = away.down = True
        asyncio.get_running_loop().call_later(1, setattr, away, "down", False)
        running = asyncio.create_task(batch.run(jobs))
        await until(lambda: "left" not in {item[1] for item in away.pending})
        away.paused = False
        await running
        batch.check_done_once(jobs)
        assert "left" not in away.history

    play(scene, servers=2)


def test_an_image_that_changes_in_between_is_not_used(play: Callable[..., Batch], tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    image.write_bytes(b"before")
    (read,) = read_images(image)
    job = make_job(1)
    image.write_bytes(b"after")

    async def scene(batch: Batch, fake: FakeComfy) -> None:
        await batch.run([Job(job.id, job.graph, read, None, None, 1)])
        assert "was changed" in batch.events("failed")[0]["reason"]
        assert not fake.inputs and not fake.posted

    play(scene)


def test_a_server_that_is_away_at_the_start_joins_later(play: Callable[..., Batch]) -> None:
    jobs = jobs_of(20, seconds=0.15)

    async def scene(batch: Batch, late: FakeComfy, early: FakeComfy) -> None:
        late.down = True
        asyncio.get_running_loop().call_later(0.3, setattr, late, "down", False)
        await batch.run(jobs)
        batch.check_done_once(jobs)
        assert late.runs() and not batch.events("released")

    play(scene, servers=2)


def test_a_task_that_forgets_a_cancellation_is_stopped() -> None:
    """As ``asyncio.wait_for`` does before Python 3.12, where the cancellation meets its result."""
    forgotten = []

    async def forgetful() -> None:
        while True:
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                if len(forgotten) == 2:
                    raise
                forgotten.append(1)

    async def play() -> None:
        tasks = [asyncio.create_task(forgetful()), asyncio.create_task(asyncio.sleep(10))]
        await asyncio.sleep(0)
        await stop(tasks)
        assert all(task.cancelled() for task in tasks)

    asyncio.run(play())
