"""From jobs to clips and a manifest, by any engine; what is done is not done again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ...clips.leftovers import remove_leftovers
from ..manifest import Manifest, done_jobs, facts_of, folder_events, write_csv
from .engines import Engine, Load
from .jobs import BatchJob
from .worker import Event, Output


def run_batch(
    jobs: Sequence[BatchJob],
    load: Load,
    output: Output,
    engine: Engine,
    manifest: Path,
    tell: Callable[[str], None] = lambda line: None,
) -> int:
    """Do what is not done yet; the number of jobs that are left, because they failed.

    Args:
        jobs: all of them.
        load: makes a worker's model.
        output: the clips' folder.
        engine: runs the workers.
        manifest: the file in that folder which this run writes; those of other shares are read.
        tell: told a line for each job.
    """
    with Manifest(manifest) as events:
        remove_leftovers(output.folder)
        done = done_jobs(output.folder)
        todo = {job.job.id: job for job in jobs if job.job.id not in done}
        events.begin(servers=[], jobs=len(todo))
        if events.warning:
            tell(events.warning)
        tell(f"jobs: {len(jobs)}, of them done before: {len(jobs) - len(todo)}")
        try:
            for number, event in enumerate(engine(list(todo.values()), load, output) if todo else (), 1):
                job = todo[event["job"]]
                events.add(**{**facts_of(job.job), **event})
                tell(_line(f"{number}/{len(todo)}", job, event))
        finally:
            write_csv(manifest.with_suffix(".csv"), [job.job for job in jobs], folder_events(output.folder))
    return len({job.job.id for job in jobs} - done_jobs(output.folder))


def _line(count: str, job: BatchJob, event: Event) -> str:
    end = f"{event['seconds']:.1f} s" if event["event"] == "done" else event["reason"]
    return f"{event['event']:6} {count}  {job.job.name}  {event['server']}  {end}"
