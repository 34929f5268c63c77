"""Two workers on a local Ray cluster, one of them killed: every clip is made once."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from firstframe.queue.batch.engines import OnRay
from firstframe.queue.batch.jobs import BatchJob, read_jobs
from firstframe.queue.batch.run import run_batch
from firstframe.queue.batch.worker import Output

ray = pytest.importorskip("ray", reason='RAY NOT TESTED: pip install "ray[data]" (the extra "ray") to try two workers')
JOBS = 6


class Slow:
    """Stands for a model: a clip takes a second, and each worker notes when it was loaded."""

    def __init__(self, loaded: Path) -> None:
        (loaded / f"{os.getpid()}").touch()


def load(loaded: Path) -> Slow:
    return Slow(loaded)


def animate(model: Slow, image: Tensor, animation: object) -> Tensor:
    time.sleep(1)
    return torch.rand(4, 16, 16, 3)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the workers cannot import a test
    ray.init(num_cpus=2, include_dashboard=False, configure_logging=False)
    yield
    ray.shutdown()


def jobs(folder: Path) -> list[BatchJob]:
    Image.new("RGB", (32, 32), "red").save(folder / "a.png")
    lines = [json.dumps({"image": "a.png", "prompt": "", "seed": seed}) for seed in range(JOBS)]
    (folder / "jobs.jsonl").write_text("\n".join(lines))
    return read_jobs(folder / "jobs.jsonl", None, {"width": 64, "height": 64})


class ShortClips(Output):
    """Its workers sleep instead of sampling: the class travels to them with the module that has :func:`animate`."""

    def __reduce__(self) -> tuple:
        return _arrive, (self.folder,)


def _arrive(folder: Path) -> Output:
    from firstframe.queue.batch import worker

    worker.animate_image = animate
    return Output(folder)


def test_a_killed_worker(cluster: None, tmp_path: Path) -> None:
    loaded, out = tmp_path / "loaded", tmp_path / "out"
    loaded.mkdir()
    todo, killed = jobs(tmp_path), []

    def tell(line: str) -> None:
        if line.startswith("done") and not killed:
            killed.append(int(re.search(r":(\d+)  ", line)[1]))
            os.kill(killed[0], signal.SIGKILL)

    left = run_batch(todo, partial(load, loaded), ShortClips(out), OnRay(2, gpus=0), out / "manifest.jsonl", tell)
    events = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
    done = [event for event in events if event["event"] == "done"]
    assert left == 0
    assert sorted(event["job"] for event in done) == sorted(job.job.id for job in todo)
    assert len(list(out.glob("*.mp4"))) == JOBS
    assert done[0]["server"].endswith(f":{killed[0]}") and not done[-1]["server"].endswith(f":{killed[0]}")
    assert len(list(loaded.iterdir())) >= 2, "another worker went on"
    again: list[str] = []
    left = run_batch(todo, partial(load, loaded), Output(out), OnRay(2, gpus=0), out / "manifest.jsonl", again.append)
    assert left == 0
    assert again == [f"jobs: {JOBS}, of them done before: {JOBS}"]
