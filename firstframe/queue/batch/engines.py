"""What runs the workers. Each engine yields the events of jobs as they end."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ...bindings.diffusers.pipeline import VideoModel
from ...errors import FirstFrameError
from .jobs import BatchJob
from .worker import Event, Output, Worker

Load = Callable[[], VideoModel]
Engine = Callable[[Sequence[BatchJob], Load, Output], Iterator[Event]]


def here(jobs: Sequence[BatchJob], load: Load, output: Output) -> Iterator[Event]:
    """One worker, in this process."""
    worker = Worker(load, output)
    return map(worker.do, jobs)


class RayWorker:
    """A :class:`Worker` as Ray Data's operators call it: a row in, a row out."""

    def __init__(self, load: Load, output: Output) -> None:
        self.worker = Worker(load, output)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """A pickled job to an event in JSON."""
        return {"event": json.dumps(self.worker.do(pickle.loads(row["job"])))}


@dataclass(frozen=True)
class OnRay:
    """Workers of a Ray cluster (Ray Data): the one that ``RAY_ADDRESS`` names, or one that is started here.

    Ray restarts a worker that is lost, on another machine if need be, and gives it the job that it was at.

    Attributes:
        workers: how many; each has a model of its own.
        gpus: of each worker, 0 for the CPU. Ray lets a worker see its own only.
        cpus: of each worker.
    """

    workers: int
    gpus: float = 1.0
    cpus: float = 1.0

    def __call__(self, jobs: Sequence[BatchJob], load: Load, output: Output) -> Iterator[Event]:
        """Raises FirstFrameError where Ray is not installed."""
        try:
            import ray.data
        except ImportError as error:
            raise FirstFrameError(
                'this engine needs Ray Data: pip install "comfyui-firstframe[ray]", or "ray[data]"'
            ) from error
        rows = ray.data.from_items([{"job": pickle.dumps(job)} for job in jobs], override_num_blocks=len(jobs))
        events = rows.map(
            RayWorker,
            fn_constructor_args=(load, output),
            concurrency=self.workers,
            num_gpus=self.gpus,
            num_cpus=self.cpus,
        )
        for row in events.iter_rows():
            yield json.loads(row["event"])
