"""``firstframe animate``: a clip from an image and prompts, with the model that ships or with weights of your own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .. import __version__
from .animate_options import ClipOptions, Fps
from .grouped import grouped
from .model_options import ModelOptions, names_of

if TYPE_CHECKING:
    from torch import Tensor

    from ..bindings.diffusers.settings import Progress


@grouped
def animate(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The image that the clip starts with.")],
    prompt: Annotated[
        list[str],
        typer.Option(help='What happens, e.g. "a red fish moves left slowly". Give it again for what comes next.'),
    ],
    *,
    out: Annotated[
        Path, typer.Option("-o", "--out", help="An .mp4, .webm, .gif or .webp file, or a new folder for png.")
    ] = Path("out.mp4"),
    fps: Fps = 8.0,
    clip: ClipOptions,
    model: ModelOptions,
) -> None:
    """Animate an image: a clip, and its frames side by side in a png next to it.

    Without --checkpoint, the tiny model that ships with FirstFrame makes the clip.
    """
    from ..bindings.diffusers.animate import animate_image

    _check_output(out, fps)
    files = model.files()
    animation = clip.animation(prompt, files)
    prepared = animation.prepare(image)
    if files is None:
        _warn([*animation.prompts, animation.negative], animation.width, animation.height)
    made = animate_image(model.load(), prepared, animation, _progress_bar)
    made_by = {"prompts": list(animation.prompts), **asdict(animation.scales), **asdict(animation.settings)}
    _write(out, made, fps, {"version": __version__, **made_by, **names_of(files)})


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


def _write(out: Path, clip: Tensor, fps: float, made_by: dict[str, Any]) -> None:
    from ..clips.video import contact_sheet, write_clip

    write_clip(out, clip, fps, {"firstframe": json.dumps(made_by)})
    contact_sheet(clip).save(_sheet_of(out))
    typer.echo(f"{out}\n{_sheet_of(out)}")
