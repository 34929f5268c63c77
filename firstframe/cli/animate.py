"""``firstframe animate``: a clip from an image and a prompt, with the model that ships with the pack."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import __version__
from ..errors import FirstFrameError
from .options import (
    Cfg,
    Device,
    Frames,
    ImageScale,
    Keep,
    Seed,
    Start,
    Steps,
    TextScale,
    guidance_of,
    load_model,
)

if TYPE_CHECKING:
    from torch import Tensor

    from ..bindings.diffusers import SamplingSettings
    from ..bindings.diffusers.settings import Progress


class Fit(str, Enum):
    cover = "cover"
    contain = "contain"
    stretch = "stretch"


class Amount(str, Enum):
    subtle = "subtle"
    balanced = "balanced"
    lively = "lively"


Image = Annotated[Path, typer.Argument(metavar="IMAGE", help="The image that the clip starts with.")]
Prompt = Annotated[
    list[str],
    typer.Option(help='What happens, e.g. "a red fish moves left slowly". Give it again for what comes next.'),
]
Out = Annotated[Path, typer.Option("-o", "--out", help="An .mp4, .webm, .gif or .webp file, or a new folder for png.")]
Negative = Annotated[str, typer.Option(help="What should not be seen.")]
Motion = Annotated[Amount | None, typer.Option(help="How much moves. Takes the place of --keep and --start.")]
Adapter = Annotated[bool, typer.Option(help="Use the I2V adapter.")]
Strength = Annotated[float, typer.Option(help="Of the I2V adapter; 1 = as trained.")]
UseRetention = Annotated[
    bool, typer.Option(help="Use the frame retention branch. Without the adapter, it makes the first frame itself.")
]
RetentionStrength = Annotated[float, typer.Option(help="Of the retention branch; 1 = as trained.")]
Clips = Annotated[
    int | None,
    typer.Option(help="Clips one after another, each from the end of the one before. One per prompt if not given."),
]
AmongLast = Annotated[int, typer.Option(help="The next clip starts with the sharpest of so many last frames.")]
Fps = Annotated[float, typer.Option(help="Frames per second of the file.")]
Side = Annotated[int, typer.Option(help="Pixels, a multiple of 8. The tiny model was trained at 128.")]
HowToFit = Annotated[Fit, typer.Option(help="Crop to fill, pad, or deform.")]
Exact = Annotated[
    bool,
    typer.Option(help="Frame 0 is the image itself, and detail that the autoencoder lost comes back where none moved."),
]
ColorMatch = Annotated[bool, typer.Option(help="Hold the colours of all frames to the image's.")]


def animate(
    image: Image,
    prompt: Prompt,
    out: Out = Path("out.mp4"),
    negative: Negative = "",
    frames: Frames = 16,
    steps: Steps = 20,
    cfg: Cfg = 2.0,
    seed: Seed = 0,
    keep: Keep = 0.5,
    start: Start = 1.0,
    motion: Motion = None,
    adapter: Adapter = True,
    strength: Strength = 1.0,
    retention: UseRetention = False,
    retention_strength: RetentionStrength = 1.0,
    image_scale: ImageScale = None,
    text_scale: TextScale = None,
    clips: Clips = None,
    among_last: AmongLast = 1,
    fps: Fps = 8.0,
    width: Side = 128,
    height: Side = 128,
    fit: HowToFit = Fit.cover,
    color_match: ColorMatch = False,
    exact: Exact = True,
    device: Device = "",
) -> None:
    """Animate an image with the tiny model: a clip, and its frames side by side in a png next to it."""
    from ..bindings.diffusers import PartScales, SamplingSettings
    from ..clips.exact import exact_first_frame
    from ..clips.reference import prepare_image
    from ..sampling.prior import MOTION, Knobs
    from ..tiny.pipeline import animate_sequence, reference_of, sample_clip

    _check_output(out, fps)
    prompts = _one_prompt_per_clip(prompt, clips)
    prior = MOTION[motion.value] if motion else Knobs(start, keep)
    guidance = guidance_of(cfg, image_scale, text_scale)
    settings = SamplingSettings(
        frames,
        steps,
        cfg,
        seed,
        prior.keep_probability,
        prior.start_time,
        guidance=guidance,
        size=(height, width),
        scale_blur=True,
    )
    scales = PartScales(adapter=adapter * strength, retention=retention * retention_strength)
    prepared = prepare_image(image, width, height, fit.value)
    _warn([*prompts, negative], width, height)
    model, held = load_model(device), adapter or not retention

    def animated(first: Tensor, words: str, own: SamplingSettings) -> Tensor:
        reference = reference_of(model, first, encode=held)
        with _progress_bar(words) as progress:
            clip = sample_clip(model, words, own, reference, scales, negative=negative, progress=progress)
        coloured = _in_the_colours_of(prepared, clip) if color_match else clip
        return exact_first_frame(coloured, first[0].movedim(0, -1)) if exact and held else coloured

    clip = animate_sequence(animated, prepared, prompts, settings, among_last)
    _write(out, clip, fps, {"version": __version__, "prompts": prompts, **asdict(scales), **asdict(settings)})


def _one_prompt_per_clip(prompts: list[str], clips: int | None) -> list[str]:
    """A prompt for each clip; one prompt may serve all of them."""
    if clips is None or clips == len(prompts):
        return prompts
    if clips < 1 or len(prompts) > 1:
        raise FirstFrameError(f"{clips} clips need one prompt each, or one for all of them; {len(prompts)} were given")
    return prompts * clips


def _sheet_of(out: Path) -> Path:
    return out.with_name(f"{out.stem}_frames.png")


def _check_output(out: Path, fps: float) -> None:
    """Refuse what could not be written after sampling."""
    from ..clips.video import check_format, check_place

    check_format(out, fps)
    check_place(_sheet_of(out))


def _warn(prompts: list[str], width: int, height: int) -> None:
    """Say on stderr what the tiny model will not do well."""
    from ..tiny.notices import about_size, about_words

    for notice in (about_words(" ".join(prompts)), about_size(width, height)):
        if notice:
            typer.echo(f"firstframe: {notice}", err=True)


@contextmanager
def _progress_bar(words: str) -> Iterator[Progress]:
    from tqdm.auto import tqdm

    with tqdm(desc=words) as bar:

        def advance(done: int, total: int, _: Tensor) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield advance


def _in_the_colours_of(image: Tensor, clip: Tensor) -> Tensor:
    from ..clips.color import match_color

    return match_color(clip, image[0].movedim(0, -1))


def _write(out: Path, clip: Tensor, fps: float, made_by: dict[str, Any]) -> None:
    from ..clips.video import contact_sheet, write_clip

    write_clip(out, clip, fps, {"firstframe": json.dumps(made_by)})
    contact_sheet(clip).save(_sheet_of(out))
    typer.echo(f"{out}\n{_sheet_of(out)}")
