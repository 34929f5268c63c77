"""The options of ``firstframe animate`` that describe the clip, and the animation that is made of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import FirstFrameError
from .model_options import SD15, TINY
from .options import Frames, ImageScale, Keep, Seed, Start, Steps, TextScale

if TYPE_CHECKING:
    from ..bindings.diffusers.animate import Animation
    from ..bindings.diffusers.models import ModelFiles


class Fit(str, Enum):
    cover = "cover"
    contain = "contain"
    stretch = "stretch"


class Amount(str, Enum):
    subtle = "subtle"
    balanced = "balanced"
    lively = "lively"


class Economy(str, Enum):
    full = "full"
    economical = "economical"


Fps = Annotated[float, typer.Option(help="Frames per second of the file.")]
Side = Annotated[
    int | None, typer.Option(help="Pixels, a multiple of 8. 512 with a checkpoint; 128 with the tiny model.")
]


@dataclass(frozen=True)
class ClipOptions:
    """What is made of the image. The fields are those of Animation, where they do not say otherwise."""

    negative: Annotated[str, typer.Option(help="What should not be seen.")] = ""
    frames: Frames = 16
    steps: Steps = 20
    cfg: Annotated[
        float | None,
        typer.Option(help="How strictly the prompt is followed; 1 = no guidance. 7.5 with a checkpoint, else 2."),
    ] = None
    seed: Seed = 0
    keep: Keep = 0.5
    start: Start = 1.0
    motion: Annotated[Amount | None, typer.Option(help="How much moves. Takes the place of --keep and --start.")] = None
    adapter: Annotated[bool, typer.Option(help="Use the I2V adapter.")] = True
    strength: Annotated[float, typer.Option(help="Of the I2V adapter; 1 = as trained.")] = 1.0
    retention: Annotated[
        bool,
        typer.Option(help="Use the frame retention branch. Without the adapter, it makes the first frame itself."),
    ] = False
    retention_strength: Annotated[float, typer.Option(help="Of the retention branch; 1 = as trained.")] = 1.0
    image_scale: ImageScale = None
    text_scale: TextScale = None
    clips: Annotated[
        int | None,
        typer.Option(help="Clips one after another, each from the end of the one before. One per prompt if not given."),
    ] = None
    among_last: Annotated[int, typer.Option(help="The next clip starts with the sharpest of so many last frames.")] = 1
    overlap: Annotated[
        int,
        typer.Option(help="The next clip begins with so many last frames, as latents. 0: with the last image alone."),
    ] = 0
    width: Side = None
    height: Side = None
    fit: Annotated[Fit, typer.Option(help="Crop to fill, pad, or deform.")] = Fit.cover
    color_match: Annotated[bool, typer.Option(help="Hold the colours of all frames to the image's.")] = False
    exact: Annotated[
        bool,
        typer.Option(
            help="Frame 0 is the image itself, and detail that the autoencoder lost comes back where none moved."
        ),
    ] = True
    passes: Annotated[
        Economy, typer.Option(help="Where both scales hold: economical takes about a third fewer passes.")
    ] = Economy.full
    parallel: Annotated[
        float, typer.Option(help="Share of the guidance kept along the prediction (APG), 0 to 1; 1 keeps all.")
    ] = 1.0
    rescale: Annotated[
        float, typer.Option(help="Share of the result brought back to the unguided contrast, 0 to 1; 0 is off.")
    ] = 0.0
    content_strength: Annotated[float, typer.Option(help="Of the content adapter; 1 = as trained.")] = 1.0

    def animation(self, prompts: list[str], files: ModelFiles | None) -> Animation:
        """What a model of these files makes, or the tiny one.

        Raises:
            FirstFrameError: options that do not go together, or a value out of its range.
        """
        from ..bindings.diffusers.animate import Animation

        if files and self.retention and not files.retention:
            raise FirstFrameError(
                "--retention is the tiny model's branch; with a checkpoint give --retention-branch FILE"
            )
        given = {name: value.value if isinstance(value, Enum) else value for name, value in vars(self).items()}
        return Animation(tuple(_one_prompt_per_clip(prompts, given.pop("clips"))), **given | self._by_model(files))

    def _by_model(self, files: ModelFiles | None) -> dict[str, Any]:
        """What depends on the model, or is its own where the user gives none."""
        own = TINY if files is None else SD15
        return {
            "cfg": own.cfg if self.cfg is None else self.cfg,
            "adapter": self.adapter and (files is None or files.i2v_adapter is not None),
            "retention": self.retention or (files is not None and files.retention is not None),
            "width": self.width or own.side,
            "height": self.height or own.side,
        }


def _one_prompt_per_clip(prompts: list[str], clips: int | None) -> list[str]:
    """A prompt for each clip; one prompt may serve all of them."""
    if clips is None or clips == len(prompts):
        return prompts
    if clips < 1 or len(prompts) > 1:
        raise FirstFrameError(f"{clips} clips need one prompt each, or one for all of them; {len(prompts)} were given")
    return prompts * clips
