"""``firstframe batch``: a clip for each line of a file, without ComfyUI, on one machine or many."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import FirstFrameError
from .animate_options import Fps
from .grouped import grouped
from .model_options import SD15, TINY, ModelOptions

if TYPE_CHECKING:
    from ..bindings.diffusers.models import ModelFiles
    from ..queue.batch.engines import Engine
    from ..queue.batch.jobs import BatchJob

INTERRUPTED = 130


class EngineName(str, Enum):
    here = "here"
    ray = "ray"


class Suffix(str, Enum):
    mp4 = "mp4"
    webm = "webm"
    gif = "gif"
    webp = "webp"


@grouped
def batch(
    jobs: Annotated[Path, typer.Argument(help='JSON lines: {"image": "a.png", "prompt": "it jumps", "seed": 3}.')],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for clips and manifest. Again: goes on there.")],
    *,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="option=value for all jobs, for example steps=30. May be repeated."),
    ] = None,
    engine: Annotated[EngineName, typer.Option(help="One worker in this process, or the workers of Ray.")] = (
        EngineName.here
    ),
    workers: Annotated[int, typer.Option(min=1, help="Of Ray; each has a model of its own.")] = 1,
    gpus: Annotated[float, typer.Option(min=0.0, help="Of each worker of Ray; 0 for the CPU.")] = 1.0,
    shard: Annotated[str, typer.Option(help="Do the i-th of n parts of the jobs: i/n.")] = "1/1",
    suffix: Annotated[Suffix, typer.Option(help="Kind of the clips' files.")] = Suffix.mp4,
    fps: Fps = 8.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the jobs and make nothing.")] = False,
    model: ModelOptions,
) -> None:
    """Make a clip for each line of a file: an image, a prompt, and any option of ``firstframe animate``.

    The same command again goes on where this one stopped, and makes no clip twice.
    """
    from ..queue.batch.worker import Output
    from ..queue.manifest import done_jobs
    from ..queue.plan import parse_shard

    files = model.files()
    part, parts = parse_shard(shard)
    todo = _jobs(jobs, files, set_ or [])[part - 1 :: parts]
    if dry_run:
        done = done_jobs(out)
        for job in todo:
            typer.echo(f"{'done' if job.job.id in done else 'to do':5}  {job.job.name}  {job.job.prompt}".rstrip())
        return
    manifest = out / ("manifest.jsonl" if parts == 1 else f"manifest.{part}-of-{parts}.jsonl")
    output = Output(out.absolute(), f".{suffix.value}", fps)
    left = _run(todo, model.load, output, _engine(engine, workers, gpus), manifest)
    typer.echo(f"done: {len(todo) - left} of {len(todo)}, see {manifest.with_suffix('.csv')}")
    if left:
        raise typer.Exit(1)


def _jobs(path: Path, files: ModelFiles | None, settings: list[str]) -> list[BatchJob]:
    from ..queue.batch.jobs import read_jobs

    own = TINY if files is None else SD15
    adapter = files is None or files.i2v_adapter is not None
    common = {"width": own.side, "height": own.side, "cfg": own.cfg, "adapter": adapter}
    common["retention"] = files is not None and files.retention is not None
    return read_jobs(path, files, {**common, **dict(map(_setting, settings))})


def _setting(text: str) -> tuple[str, Any]:
    """``"steps=30"`` is a name and a value: JSON, or else a text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise FirstFrameError(f"--set {text!r}: option=value, for example steps=30")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _engine(name: EngineName, workers: int, gpus: float) -> Engine:
    from ..queue.batch.engines import OnRay, here

    return here if name is EngineName.here else OnRay(workers, gpus)


def _run(jobs: list[BatchJob], load: Any, output: Any, engine: Engine, manifest: Path) -> int:
    from ..queue.batch.run import run_batch

    try:
        return run_batch(jobs, load, output, engine, manifest, typer.echo)
    except KeyboardInterrupt:
        typer.echo("stopped; the same command goes on", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except OSError as error:
        raise FirstFrameError(f"stopped: {error}") from error
