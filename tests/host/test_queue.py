"""`firstframe queue` with real servers: killed and cancelled half-way, every job is done exactly once."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from comfyui_firstframe_pack.firstframe.clips.video import read_clip
from conftest import HOST
from harness import ROOT, Graph, Server, find_node, quickstart, running_server
from PIL import Image

COLORS = ["red", "blue"]
PROMPTS = ["a red fish moves left slowly", "a blue star moves up quickly", "a green heart moves down slowly"]
SEEDS = range(5)
JOBS = len(COLORS) * len(PROMPTS) * len(SEEDS)
WAIT_SECONDS = 300


def quick_graph(steps: int = 1) -> Graph:
    graph = quickstart(steps=steps)
    find_node(graph, "FirstFrameSimilarityPrior")["inputs"]["num_frames"] = 4
    find_node(graph, "FirstFrameEncodeReference")["inputs"].update(width=64, height=64)
    return graph


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with what a batch is made of."""
    (tmp_path / "pictures").mkdir()
    for color in COLORS:
        Image.new("RGB", (96, 64), color).save(tmp_path / "pictures" / f"{color}.png")
    (tmp_path / "prompts.txt").write_text("# what happens\n" + "\n".join(PROMPTS), "utf-8")
    (tmp_path / "workflow.json").write_text(json.dumps(quick_graph()), "utf-8")
    return tmp_path


def command(work: Path, servers: list[Server], *options: str, out: str = "out") -> list[str]:
    python = [sys.executable, "-m", "firstframe.cli", "queue", str(work / "workflow.json"), "-o", str(work / out)]
    return [*python, *(part for server in servers for part in ("--server", server.address)), *options]


def matrix(work: Path, seeds: str = f"0-{len(SEEDS) - 1}") -> list[str]:
    return ["--images", str(work / "pictures"), "--prompts", str(work / "prompts.txt"), "--seeds", seeds]


@contextmanager
def started(arguments: list[str]) -> Iterator[subprocess.Popen[str]]:
    """The client, at work. It hears Ctrl-C also where these tests run in the background."""
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    hearing = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    client = subprocess.Popen(arguments, cwd=ROOT, preexec_fn=hearing, **output)
    try:
        yield client
    finally:
        client.kill()
        client.wait()


def finished(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=WAIT_SECONDS)


def events(work: Path, *kinds: str, out: str = "out") -> list[dict[str, Any]]:
    manifest = work / out / "manifest.jsonl"
    lines = manifest.read_text("utf-8").split("\n")[:-1] if manifest.exists() else []
    return [event for event in map(json.loads, lines) if event["event"] in kinds]


def until(reached: Callable[[], Any], client: subprocess.Popen[str] | None = None) -> None:
    """Wait; fail where it takes too long, or the client ends before."""
    end = time.monotonic() + WAIT_SECONDS
    while not reached():
        assert client is None or client.poll() is None, client.stdout.read()
        assert time.monotonic() < end
        time.sleep(0.02)


def open_at(work: Path, server: Server) -> set[str]:
    """Jobs that a server was sent and that have not ended, by the manifest."""
    sent = {event["prompt_id"] for event in events(work, "sent") if server.address in event["server"]}
    return sent - {event.get("prompt_id") for event in events(work, "done", "failed", "released")}


def runs_of_jobs(servers: list[Server]) -> Counter[str]:
    """How often servers ran each job to its end, by their own account."""
    entries = [entry for server in servers for entry in server.get("history").values()]
    well = [entry["prompt"][3] for entry in entries if entry["status"]["status_str"] == "success"]
    return Counter(data["firstframe_queue"]["job"] for data in well if "firstframe_queue" in data)


def check_result(work: Path, done: dict[str, Any]) -> None:
    """One file, whole, and made from the image, prompt and seed that the manifest and its name say."""
    (file,) = done["files"]
    path = work / "out" / file["file"]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == file["sha256"]
    assert path.name.startswith(f"{Path(done['picture']).stem}_p{done['prompt_index']:03}_s{done['seed']}_")
    graph = json.loads(read_clip(path).metadata["prompt"])
    digest = hashlib.sha256(Path(done["picture"]).read_bytes()).hexdigest()
    assert find_node(graph, "LoadImage")["inputs"]["image"] == f"firstframe_{digest}.png"
    assert graph["3"]["inputs"]["text"] == done["prompt"] == PROMPTS[done["prompt_index"] - 1]
    assert find_node(graph, "KSampler")["inputs"]["seed"] == done["seed"]


def test_a_dead_server_and_a_dead_client_and_every_job_is_done_exactly_once(work: Path, tmp_path: Path) -> None:
    with ExitStack() as stack:
        servers = [stack.enter_context(running_server(HOST, tmp_path / f"comfyui{number}")) for number in range(3)]
        *alive, doomed = servers
        arguments = command(work, servers, *matrix(work))
        with started(arguments) as client:
            until(lambda: len(events(work, "done")) >= 8 and open_at(work, doomed), client)
            doomed.process.kill()
            until(lambda: len(events(work, "done")) >= JOBS // 2 and all(open_at(work, it) for it in alive), client)
            client.send_signal(signal.SIGKILL)
            client.wait()
        before = {event["job"] for event in events(work, "done")}
        assert JOBS // 2 <= len(before) < JOBS

        resumed = finished(arguments)
        assert resumed.returncode == 0, resumed.stdout + resumed.stderr
        done = events(work, "done")
        assert len(done) == JOBS == len({event["job"] for event in done})
        assert not events(work, "failed")
        assert len(list((work / "out").glob("*.mp4"))) == JOBS
        for event in done:
            check_result(work, event)
        runs = runs_of_jobs(alive)
        by_doomed = {event["job"] for event in done if doomed.address in event["server"]}
        assert set(runs.values()) == {1}
        assert runs.keys() | by_doomed == {event["job"] for event in done}
        assert not runs.keys() & by_doomed

        again = finished(arguments)
        assert again.returncode == 0 and runs_of_jobs(alive) == runs
        assert events(work, "done") == done


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that the tests below share, with a memory of its own."""
    with running_server(HOST, tmp_path_factory.mktemp("comfyui")) as running:
        yield running


def test_what_a_server_remembers_is_fetched_again(work: Path, one: Server) -> None:
    options = ["--images", str(work / "pictures" / "red.png"), "--seeds", "100"]
    for out in ("out", "again"):
        result = finished(command(work, [one], *options, out=out))
        assert result.returncode == 0, result.stdout + result.stderr
    (first,), (again,) = (events(work, "done", out=out) for out in ("out", "again"))
    assert first["files"][0]["sha256"] == again["files"][0]["sha256"]
    entry = one.get(f"history/{again['prompt_id']}")[again["prompt_id"]]
    cached = dict(entry["status"]["messages"])["execution_cached"]["nodes"]
    assert set(cached) == quick_graph().keys()


def test_an_image_that_cannot_be_read_fails_and_the_rest_is_done(work: Path, one: Server) -> None:
    (work / "pictures" / "broken.png").write_bytes(b"this is no image")
    result = finished(command(work, [one], "--images", str(work / "pictures")))
    assert result.returncode == 1
    (failed,) = events(work, "failed")
    assert failed["node_type"] == "LoadImage" and "UnidentifiedImageError" in failed["reason"]
    assert failed["reason"] in result.stdout
    assert len(events(work, "sent")) == 3 and len(events(work, "done")) == 2


def test_a_value_that_the_server_refuses_is_told_with_its_node(work: Path, one: Server) -> None:
    result = finished(command(work, [one], "--set", "KSampler.sampler_name=nonsense"))
    assert result.returncode == 1
    (failed,) = events(work, "failed")
    assert failed["node_type"] == "KSampler" and "sampler_name" in failed["reason"] and "nonsense" in failed["reason"]


@pytest.mark.parametrize("running", ["ours", "theirs"])
def test_ctrl_c_takes_our_jobs_off_the_server_and_no_others(work: Path, one: Server, running: str) -> None:
    graph = quick_graph(steps=40)
    (work / "workflow.json").write_text(json.dumps(graph), "utf-8")
    seeds = "200-203" if running == "ours" else "300-303"
    arguments = command(work, [one], "--seeds", seeds)
    find_node(graph, "KSampler")["inputs"]["seed"] = 1000 + (running == "ours")

    def running_now() -> list[str]:
        return [item[1] for item in one.get("queue")["queue_running"]]

    theirs = one.post("prompt", {"prompt": graph})["prompt_id"] if running == "theirs" else ""
    if theirs:
        until(lambda: theirs in running_now())
    with started(arguments) as client:
        until(lambda: len({event["prompt_id"] for event in events(work, "sent")} & in_queue(one)) == 2, client)
        theirs = theirs or one.post("prompt", {"prompt": graph})["prompt_id"]
        client.send_signal(signal.SIGINT)
        assert client.wait(30) == 130, client.stdout.read()
    ours = {event["prompt_id"] for event in events(work, "sent")}
    assert {event["prompt_id"] for event in events(work, "cancelled")} == ours
    until(lambda: not ours & in_queue(one))
    until(lambda: theirs in one.get("history"))
    assert one.get(f"history/{theirs}")[theirs]["status"]["status_str"] == "success"
    assert not runs_of_jobs([one]).keys() & {event["job"] for event in events(work, "sent")}

    resumed = finished(arguments)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert len(events(work, "done")) == 4


def in_queue(server: Server) -> set[str]:
    """Ids of what runs or waits."""
    queue = server.get("queue")
    return {item[1] for item in queue["queue_running"] + queue["queue_pending"]}
