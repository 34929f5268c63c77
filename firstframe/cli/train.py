"""``firstframe train``: an adapter, a branch or a content adapter for clips of your own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Device, resolve_device
from .train_tiny import app as tiny_app

if TYPE_CHECKING:
    from ..training.base import VideoBase
    from ..training.clips.plan import Plan
    from ..training.config import ModelTable, TrainingConfig
    from ..training.run import Training
    from ..training.target import Kind

app = typer.Typer(help="Train an adapter, a branch or a content adapter on your own clips.", no_args_is_help=True)
app.add_typer(tiny_app, name="tiny")

Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="A TOML file; docs/training.md explains it.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing of it.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in output_dir.")]
What = Annotated[str, typer.Option(help="adapter, retention or content: what to measure a step of.")]


@app.command()
def check(config: Config, what: What = "adapter", dry_run: DryRun = False, device: Device = "") -> None:
    """Say which clips are used, draw them, and measure what a step takes. With --dry-run, load no model."""
    from ..errors import FirstFrameError

    if what not in ("adapter", "retention", "content"):
        raise FirstFrameError(f"--what is adapter, retention or content, got {what!r}")
    read, plan = _planned(config)
    _show(read, plan)
    if not dry_run:
        _estimate(_training(what, read, plan, device))  # type: ignore[arg-type]


@app.command()
def adapter(config: Config, resume: Resume = False, dry_run: DryRun = False, device: Device = "") -> None:
    """Train an I2V adapter: every frame looks at the first, which is clean (arXiv 2312.16693)."""
    _train("adapter", config, resume, dry_run, device)


@app.command()
def retention(config: Config, resume: Resume = False, dry_run: DryRun = False, device: Device = "") -> None:
    """Train a frame retention branch; with temporal = true, the base's temporal layers too (arXiv 2312.03018)."""
    _train("retention", config, resume, dry_run, device)


@app.command()
def content(config: Config, resume: Resume = False, dry_run: DryRun = False, device: Device = "") -> None:
    """Train a content adapter: IP-Adapter Plus, whose tokens say what is in the first frame (arXiv 2308.06721)."""
    _train("content", config, resume, dry_run, device)


def _train(kind: Kind, config: Path, resume: bool, dry_run: bool, device: str) -> None:
    read, plan = _planned(config)
    if dry_run:
        _show(read, plan)
    training = _training(kind, read, plan, device)
    if dry_run:
        _estimate(training)
        return
    folder = read.train.output_dir
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_bytes(config.read_bytes())
    done = training.run(resume)
    if done < read.train.max_train_steps:
        typer.echo(f"stopped and saved at step {done}; the same command with --resume goes on")
        raise typer.Exit(130)
    typer.echo(folder / f"{read.train.output_name or kind}.safetensors")


def _planned(file: Path) -> tuple[TrainingConfig, Plan]:
    from ..tiny.trainable import with_tiny_files
    from ..training.clips.plan import make_plan
    from ..training.config import read_config

    read = read_config(file)
    read = read.model_copy(update={"model": with_tiny_files(read.model)})
    return read, make_plan(read)


def _show(config: TrainingConfig, plan: Plan) -> None:
    from ..training.clips.report import in_words, write_sheet

    for line in in_words(plan):
        typer.echo(line)
    typer.echo(write_sheet(plan, config.train.output_dir / "clips.png"))


def _training(kind: Kind, config: TrainingConfig, plan: Plan, device: str) -> Training:
    from ..training.run import Training

    on_cpu = resolve_device(device).type == "cpu"
    return Training.of(kind, config, _base(config.model), plan, cpu=on_cpu)


def _base(model: ModelTable) -> VideoBase:
    from ..tiny.trainable import tiny_base
    from ..training.base import load_base
    from ..training.config import TINY

    return tiny_base(model.clip_vision) if str(model.checkpoint) == TINY else load_base(model)


def _estimate(training: Training) -> None:
    typer.echo(training.estimate().in_words(training.config.train))
