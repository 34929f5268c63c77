"""``firstframe measure …``: how well the tiny model does on rendered scenes, as numbers and as a page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..errors import FirstFrameError
from .options import (
    Cfg,
    Device,
    ImageScale,
    Keep,
    Report,
    Scenes,
    Seed,
    Start,
    Steps,
    TextScale,
    guidance_of,
    load_model,
)

SECTIONS = ("parts", "actions", "image_scale", "prior", "other_look")

app = typer.Typer(help="Measure the tiny model on rendered scenes.", no_args_is_help=True)


@app.command("tiny")
def measure_tiny(
    scenes: Scenes = 64,
    seed: Seed = 0,
    report: Report = Path("report/tiny"),
    steps: Steps = 10,
    cfg: Cfg = 2.0,
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
    from ..experiments.tiny import measure_tiny as measure
    from ..experiments.variants import RETAINED, VARIANTS

    guidance = guidance_of(cfg, image_scale, text_scale)
    settings = SamplingSettings(16, steps, cfg, seed, keep, start, guidance=guidance)
    variants = (*VARIANTS, *RETAINED) if retention else VARIANTS
    numbers = measure(load_model(device), scenes, seed, settings, report, variants)
    typer.echo(json.dumps({key: numbers[key] for key in ("variants", "autoencoder", "truth")}, indent=2))
    typer.echo(f"{report / 'report.json'}\n{report / 'report.html'}")


@app.command("prior")
def measure_prior(
    scenes: Scenes = 16,
    seed: Seed = 0,
    report: Report = Path("report/prior"),
    steps: Steps = 10,
    cfg: Cfg = 2.0,
    device: Device = "",
) -> None:
    """Flow score and warping error over t0 and p of the frame similarity prior."""
    from ..bindings.diffusers import SamplingSettings
    from ..experiments.prior import as_table
    from ..experiments.prior import measure_prior as measure

    numbers = measure(load_model(device), scenes, seed, SamplingSettings(16, steps, cfg, seed), report)
    typer.echo(as_table(numbers["rows"]))
    typer.echo(f"{report / 'prior.json'}\n{report / 'report.html'}")


@app.command("claims")
def measure_claims(
    scenes: Scenes = 16,
    pictures: Annotated[int, typer.Option(help="How many pictures are sent into six actions each.")] = 16,
    seed: Seed = 0,
    report: Report = Path("report/claims"),
    steps: Steps = 6,
    cfg: Cfg = 2.0,
    only: Annotated[
        list[str] | None, typer.Option(help=f"Only this section, one of {', '.join(SECTIONS)}; may be given again.")
    ] = None,
    device: Device = "",
) -> None:
    """The papers' claims in figures: parts, many actions from one picture, image scale, prior, another look."""
    from ..bindings.diffusers import SamplingSettings
    from ..experiments.claims import measure_claims as measure

    if unknown := set(only or ()) - set(SECTIONS):
        raise FirstFrameError(f"there is no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    settings = SamplingSettings(16, steps, cfg, seed)
    measure(load_model(device), scenes, pictures, seed, settings, report, only or SECTIONS)
    typer.echo((report / "claims.md").read_text("utf-8"))
    typer.echo(f"{report / 'claims.json'}\n{report / 'report.html'}")
