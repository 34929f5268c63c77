"""The options of ``firstframe animate``, but for those that name a model."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


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
Overlap = Annotated[
    int, typer.Option(help="The next clip begins with so many last frames, as latents. 0: with the last image alone.")
]
Fps = Annotated[float, typer.Option(help="Frames per second of the file.")]
Side = Annotated[
    int | None, typer.Option(help="Pixels, a multiple of 8. 512 with a checkpoint; 128 with the tiny model.")
]
Guidance = Annotated[
    float | None,
    typer.Option(help="How strictly the prompt is followed; 1 = no guidance. 7.5 with a checkpoint, else 2."),
]
Content = Annotated[float, typer.Option(help="Of the content adapter; 1 = as trained.")]
PassesOption = Annotated[
    Economy, typer.Option(help="Where both scales hold: economical takes about a third fewer passes.")
]
Parallel = Annotated[
    float, typer.Option(help="Share of the guidance kept along the prediction (APG), 0 to 1; 1 keeps all.")
]
Rescale = Annotated[
    float, typer.Option(help="Share of the result brought back to the unguided contrast, 0 to 1; 0 is off.")
]
Exact = Annotated[
    bool,
    typer.Option(help="Frame 0 is the image itself, and detail that the autoencoder lost comes back where none moved."),
]
HowToFit = Annotated[Fit, typer.Option(help="Crop to fill, pad, or deform.")]
ColorMatch = Annotated[bool, typer.Option(help="Hold the colours of all frames to the image's.")]
