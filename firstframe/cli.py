"""The command `firstframe`: animate a picture, measure the tiny model."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from . import __version__
from .errors import FirstFrameError
from .training.cli import app as train_app

if TYPE_CHECKING:
    from .tiny.model import TinyModel


class OneLineErrors(TyperGroup):
    """What FirstFrame refuses is told in one line, with exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except FirstFrameError as error:
            typer.echo(f"firstframe: {error}", err=True)
            raise typer.Exit(1) from error


class Fit(str, Enum):
    cover = "cover"
    contain = "contain"
    stretch = "stretch"


app = typer.Typer(
    cls=OneLineErrors,
    help="Image-to-video: a clip that starts with your picture and moves as your sentence says.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
measure_app = typer.Typer(help="Measure the tiny model on rendered scenes.", no_args_is_help=True)
app.add_typer(measure_app, name="measure")
app.add_typer(train_app, name="train")

Frames = Annotated[int, typer.Option(help="Number of frames, at most 16.")]
Steps = Annotated[int, typer.Option(help="Sampling steps (DDIM).")]
Cfg = Annotated[float, typer.Option(help="How strictly the prompt is followed; 1 = no guidance.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same clip.")]
Keep = Annotated[
    float, typer.Option(help="p: share of the picture that the start keeps sharp, 0 to 1; less is steadier.")
]
Start = Annotated[float, typer.Option(help="t0: where in the noise schedule to start, up to 1; less is steadier.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, ...; found by itself if not given.")]
Scenes = Annotated[int, typer.Option(help="Number of scenes.")]
Report = Annotated[Path, typer.Option(help="Folder to write to.")]


@app.command()
def animate(
    picture: Annotated[Path, typer.Argument(help="The picture that the clip starts with.")],
    prompt: Annotated[str, typer.Option(help='What happens, e.g. "a red fish moves left slowly".')],
    out: Annotated[Path, typer.Option("-o", "--out", help="An .mp4, .webm or .gif file.")] = Path("out.mp4"),
    negative: Annotated[str, typer.Option(help="What should not be seen.")] = "",
    frames: Frames = 16,
    steps: Steps = 20,
    cfg: Cfg = 4.0,
    seed: Seed = 0,
    keep: Keep = 0.5,
    start: Start = 1.0,
    adapter: Annotated[bool, typer.Option(help="Use the I2V adapter.")] = True,
    strength: Annotated[float, typer.Option(help="Of the I2V adapter; 1 = as trained.")] = 1.0,
    fps: Annotated[float, typer.Option(help="Frames per second of the file.")] = 8.0,
    width: Annotated[int, typer.Option(help="Pixels, a multiple of 8. The tiny model knows 128.")] = 128,
    height: Annotated[int, typer.Option(help="Pixels, a multiple of 8. The tiny model knows 128.")] = 128,
    fit: Annotated[Fit, typer.Option(help="Crop to fill, pad, or deform.")] = Fit.cover,
    color_match: Annotated[bool, typer.Option(help="Hold the colours of all frames to the picture's.")] = False,
    device: Device = "",
) -> None:
    """Animate a picture with the tiny model: a clip, and its frames side by side in a png next to it."""
    from tqdm.auto import tqdm

    from .bindings.diffusers import SamplingSettings
    from .color import match_color
    from .pipeline import animate_picture
    from .reference import prepare_picture
    from .video import check_format, contact_sheet, write_clip

    check_format(out)
    settings = SamplingSettings(frames, steps, cfg, seed, keep, start)
    prepared = prepare_picture(picture, width, height, fit.value)
    model = _load(device)
    with tqdm(desc="steps") as bar:
        clip = animate_picture(
            model,
            prepared,
            prompt,
            settings,
            negative=negative,
            strength=strength if adapter else 0.0,
            progress=lambda done, total, _: _advance(bar, done, total),
        )
    if color_match:
        clip = match_color(clip, prepared[0].movedim(0, -1))
    made_by = {"version": __version__, "prompt": prompt, "adapter": adapter, **asdict(settings)}
    write_clip(out, clip, fps, {"firstframe": json.dumps(made_by)})
    sheet = out.with_name(f"{out.stem}_frames.png")
    contact_sheet(clip).save(sheet)
    typer.echo(f"{out}\n{sheet}")


@measure_app.command("tiny")
def measure_tiny(
    scenes: Scenes = 64,
    seed: Seed = 0,
    report: Report = Path("report"),
    steps: Steps = 10,
    cfg: Cfg = 4.0,
    keep: Keep = 0.5,
    start: Start = 1.0,
    device: Device = "",
) -> None:
    """Compare text only, clean first frame and adapter on scenes never trained on."""
    from .bindings.diffusers import SamplingSettings
    from .measure.tiny import measure_tiny as measure

    settings = SamplingSettings(16, steps, cfg, seed, keep, start)
    numbers = measure(_load(device), scenes, seed, settings, report)
    typer.echo(json.dumps({key: numbers[key] for key in ("variants", "autoencoder", "truth")}, indent=2))
    typer.echo(f"{report / 'report.json'}\n{report / 'report.png'}")


@measure_app.command("prior")
def measure_prior(
    scenes: Scenes = 16,
    seed: Seed = 0,
    report: Report = Path("report"),
    steps: Steps = 10,
    cfg: Cfg = 4.0,
    device: Device = "",
) -> None:
    """Flow score and warping error over t0 and p of the frame similarity prior."""
    from .bindings.diffusers import SamplingSettings
    from .measure.prior import as_table
    from .measure.prior import measure_prior as measure

    numbers = measure(_load(device), scenes, seed, SamplingSettings(16, steps, cfg, seed), report)
    typer.echo(as_table(numbers["rows"]))
    typer.echo(f"{report / 'prior.json'}\n{report / 'prior.md'}")


def _load(device: str) -> TinyModel:
    import torch

    from .tiny.model import load_tiny

    return load_tiny(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def _advance(bar: Any, done: int, total: int) -> None:
    bar.total = total
    bar.update(done - bar.n)


if __name__ == "__main__":
    app()
