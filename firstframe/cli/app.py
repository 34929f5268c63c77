"""The command `firstframe`: animate a picture, measure the tiny model."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from .. import __version__
from ..errors import FirstFrameError
from .measure import app as measure_app
from .options import Cfg, Device, Frames, ImageScale, Keep, Seed, Start, Steps, TextScale, guidance_of, load_model
from .queue import queue
from .train import app as train_app
from .weights import app as weights_app

if TYPE_CHECKING:
    from torch import Tensor


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


class Amount(str, Enum):
    subtle = "subtle"
    balanced = "balanced"
    lively = "lively"


app = typer.Typer(
    cls=OneLineErrors,
    help="Image-to-video: a clip that starts with your picture and moves as your sentence says.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(measure_app, name="measure")
app.add_typer(train_app, name="train")
app.add_typer(weights_app, name="weights")
app.command()(queue)


@app.command()
def animate(
    picture: Annotated[Path, typer.Argument(help="The picture that the clip starts with.")],
    prompt: Annotated[
        list[str],
        typer.Option(help='What happens, e.g. "a red fish moves left slowly". Give it again for what happens next.'),
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="An .mp4, .webm, .gif or .webp file, or a new folder for png files.")
    ] = Path("out.mp4"),
    negative: Annotated[str, typer.Option(help="What should not be seen.")] = "",
    frames: Frames = 16,
    steps: Steps = 20,
    cfg: Cfg = 2.0,
    seed: Seed = 0,
    keep: Keep = 0.5,
    start: Start = 1.0,
    motion: Annotated[
        Amount | None, typer.Option(help="How much moves. Takes the place of --keep and --start.")
    ] = None,
    adapter: Annotated[bool, typer.Option(help="Use the I2V adapter.")] = True,
    strength: Annotated[float, typer.Option(help="Of the I2V adapter; 1 = as trained.")] = 1.0,
    retention: Annotated[
        bool,
        typer.Option(help="Use the frame retention branch. Without the adapter, the first frame is then its own work."),
    ] = False,
    retention_strength: Annotated[float, typer.Option(help="Of the retention branch; 1 = as trained.")] = 1.0,
    image_scale: ImageScale = None,
    text_scale: TextScale = None,
    clips: Annotated[
        int | None,
        typer.Option(
            help="Clips one after another, each from the end of the one before. One for each prompt if not given."
        ),
    ] = None,
    among_last: Annotated[int, typer.Option(help="The next clip starts with the sharpest of so many last frames.")] = 1,
    fps: Annotated[float, typer.Option(help="Frames per second of the file.")] = 8.0,
    width: Annotated[int, typer.Option(help="Pixels, a multiple of 8. The tiny model knows 128.")] = 128,
    height: Annotated[int, typer.Option(help="Pixels, a multiple of 8. The tiny model knows 128.")] = 128,
    fit: Annotated[Fit, typer.Option(help="Crop to fill, pad, or deform.")] = Fit.cover,
    color_match: Annotated[bool, typer.Option(help="Hold the colours of all frames to the picture's.")] = False,
    device: Device = "",
) -> None:
    """Animate a picture with the tiny model: a clip, and its frames side by side in a png next to it."""
    from tqdm.auto import tqdm

    from ..bindings.diffusers import SamplingSettings
    from ..clips.color import match_color
    from ..clips.reference import prepare_picture
    from ..clips.video import check_format, contact_sheet, write_clip
    from ..sampling.prior import MOTION
    from ..tiny.pipeline import PartScales, animate_picture, animate_sequence, retain_picture

    check_format(out)
    prompts = _one_prompt_per_clip(prompt, clips)
    guidance = guidance_of(cfg, image_scale, text_scale)
    if motion:
        start, keep = MOTION[motion.value].start_time, MOTION[motion.value].keep_probability
    settings = SamplingSettings(frames, steps, cfg, seed, keep, start, guidance=guidance)
    strengths = PartScales(strength if adapter else 0.0, retention_strength if retention else 0.0)
    prepared = prepare_picture(picture, width, height, fit.value)
    model = load_model(device)

    def animated(first: Tensor, words: str, own: SamplingSettings) -> Tensor:
        with tqdm(desc=words) as bar:
            advance = partial(_advance, bar)
            if retention and not adapter:
                return retain_picture(
                    model, first, words, own, strength=retention_strength, negative=negative, progress=advance
                )
            return animate_picture(model, first, words, own, strengths, negative=negative, progress=advance)

    clip = animate_sequence(animated, prepared, prompts, settings, among_last)
    if color_match:
        clip = match_color(clip, prepared[0].movedim(0, -1))
    made_by = {"version": __version__, "prompts": prompts, **asdict(strengths), **asdict(settings)}
    write_clip(out, clip, fps, {"firstframe": json.dumps(made_by)})
    sheet = out.with_name(f"{out.stem}_frames.png")
    contact_sheet(clip).save(sheet)
    typer.echo(f"{out}\n{sheet}")


def _one_prompt_per_clip(prompts: list[str], clips: int | None) -> list[str]:
    """A prompt for each clip; one prompt may serve all of them."""
    if clips is None or clips == len(prompts):
        return prompts
    if clips < 1 or len(prompts) > 1:
        raise FirstFrameError(f"{clips} clips need one prompt each, or one for all of them; {len(prompts)} were given")
    return prompts * clips


def _advance(bar: Any, done: int, total: int, _: Tensor) -> None:
    bar.total = total
    bar.update(done - bar.n)
