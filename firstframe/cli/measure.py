"""``firstframe measure …``: how well the tiny model does on rendered scenes, as numbers and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import FirstFrameError
from ..tiny.config import GUIDANCE
from .options import Cfg, Device, ImageScale, Keep, Scenes, Seed, Start, Steps, TextScale, guidance_of, load_model

if TYPE_CHECKING:
    from ..experiments.experiment import Report, Setup

SECTIONS = ("parts", "actions", "image_scale", "prior", "other_look")
Out = Annotated[Path, typer.Option("-o", "--out", "--report", help="Folder to write to.")]

app = typer.Typer(help="Measure the tiny model on rendered scenes.", no_args_is_help=True)


@app.command("tiny")
def measure_tiny(
    scenes: Scenes = 64,
    seed: Seed = 0,
    out: Out = Path("report/tiny"),
    steps: Steps = 10,
    cfg: Cfg = GUIDANCE,
    keep: Keep = 0.5,
    start: Start = 1.0,
    retention: Annotated[
        bool, typer.Option(help="Also the frame retention branch, alone and beside the adapter.")
    ] = False,
    image_scale: ImageScale = None,
    text_scale: TextScale = None,
    device: Device = "",
) -> None:
    """Compare text only, clean first frame and adapter on scenes never trained on."""
    from ..bindings.diffusers import SamplingSettings
    from ..experiments.catalogue import comparison
    from ..experiments.experiment import Setup

    guidance = guidance_of(cfg, image_scale, text_scale)
    settings = SamplingSettings(16, steps, cfg, seed, keep, start, guidance=guidance, scale_blur=True)
    _measure(comparison(retention), Setup(scenes, seed, settings), out, device)


@app.command("prior")
def measure_prior(
    scenes: Scenes = 16,
    seed: Seed = 0,
    out: Out = Path("report/prior"),
    steps: Steps = 10,
    cfg: Cfg = GUIDANCE,
    device: Device = "",
) -> None:
    """Motion and steadiness over t0 and keep of the frame similarity prior (the paper's p is 1 - keep)."""
    from ..bindings.diffusers import SamplingSettings
    from ..experiments.catalogue import PRIOR_REPORT
    from ..experiments.experiment import Setup

    _measure(PRIOR_REPORT, Setup(scenes, seed, SamplingSettings(16, steps, cfg, seed, scale_blur=True)), out, device)


@app.command("claims")
def measure_claims(
    scenes: Scenes = 16,
    images: Annotated[
        int, typer.Option("--images", "--pictures", help="How many images are animated in six ways each.")
    ] = 16,
    seed: Seed = 0,
    out: Out = Path("report/claims"),
    steps: Steps = 6,
    cfg: Cfg = GUIDANCE,
    only: Annotated[
        list[str] | None, typer.Option(help=f"Only this section, one of {', '.join(SECTIONS)}; may be given again.")
    ] = None,
    device: Device = "",
) -> None:
    """The papers' claims in figures: parts, many actions from one image, image scale, prior, another look."""
    from ..bindings.diffusers import SamplingSettings
    from ..experiments.catalogue import CLAIMS
    from ..experiments.experiment import Setup

    if unknown := set(only or ()) - set(SECTIONS):
        raise FirstFrameError(f"there is no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    setup = Setup(scenes, seed, SamplingSettings(16, steps, cfg, seed, scale_blur=True), images)
    _measure(CLAIMS, setup, out, device, only or ())


@app.command("photographs")
def measure_photographs(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Of photographs, used as squares.")],
    seed: Seed = 0,
    out: Out = Path("report/photographs"),
    steps: Steps = 10,
    cfg: Cfg = GUIDANCE,
    device: Device = "",
) -> None:
    """Animate photographs under each camera word (still, pan, zoom, turn) and compare them with the truth."""
    from ..bindings.diffusers import SamplingSettings
    from ..experiments import photographs

    settings = SamplingSettings(16, steps, cfg, seed, scale_blur=True)
    results = photographs.measure_photographs(load_model(device), folder, out, settings)
    for camera, numbers in {**results["cameras"], "overall": results["overall"]}.items():
        typer.echo(f"{camera}: " + ", ".join(f"{name} {value:.3f}" for name, value in numbers.items()))
    typer.echo(f"{out / 'report.json'}")


def _measure(report: Report, setup: Setup, out: Path, device: str, only: Sequence[str] = ()) -> None:
    from ..experiments.run import measure

    measure(report, load_model(device), setup, out, only, typer.echo)
    typer.echo((out / f"{report.name}.md").read_text("utf-8"))
    typer.echo(f"{out / report.name}.json\n{out / 'report.html'}")
