"""Options that name a model: the tiny one, or files of weights; and what is made of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import FirstFrameError
from .options import resolve_device

if TYPE_CHECKING:
    from ..bindings.diffusers.models import ModelFiles
    from ..bindings.diffusers.pipeline import VideoModel


CheckpointFile = Annotated[
    Path | None,
    typer.Option(
        help="Stable Diffusion 1.5, SDXL or a model made from one, in one file. Without it, the tiny model is used.",
        metavar="FILE",
    ),
]
MotionFile = Annotated[
    Path | None,
    typer.Option(help="AnimateDiff's motion module, AnimateLCM's, Hotshot-XL's, or one of your own.", metavar="FILE"),
]
AdapterFile = Annotated[Path | None, typer.Option("--i2v-adapter", help="An I2V adapter.", metavar="FILE")]
RetentionFile = Annotated[
    Path | None,
    typer.Option(
        "--retention-branch",
        help="A frame retention branch. Its motion module is used if no other is given.",
        metavar="FILE",
    ),
]
ContentFile = Annotated[
    Path | None,
    typer.Option("--content-adapter", help="IP-Adapter Plus, which also needs --clip-vision.", metavar="FILE"),
]
ProjectionsFile = Annotated[
    Path | None,
    typer.Option(
        "--projections", help="Where the content adapter's projections are, if not in its own file.", metavar="FILE"
    ),
]
VisionFile = Annotated[
    Path | None,
    typer.Option("--clip-vision", help="CLIP's image encoder ViT-H, for --content-adapter.", metavar="FILE"),
]
VaeFile = Annotated[Path | None, typer.Option("--vae", help="A VAE in place of the checkpoint's.", metavar="FILE")]
Loras = Annotated[
    list[str],
    typer.Option("--lora", help="A LoRA and its strength (1 if not given). May be repeated.", metavar="FILE:STRENGTH"),
]
Offload = Annotated[
    bool,
    typer.Option(help="Keep each network on the CPU until it is its turn, for GPUs with 8 GB."),
]


@dataclass(frozen=True)
class Defaults:
    """What the options are where they are not given.

    Attributes:
        side: of the clip, pixels.
        cfg: guidance by the text.
    """

    side: int
    cfg: float


TINY, SD15 = Defaults(128, 2.0), Defaults(512, 7.5)


def parse_lora(text: str) -> tuple[Path, float]:
    """``"look.safetensors:0.8"`` is a file and a strength of 0.8; without a number the strength is 1.

    Raises:
        FirstFrameError: what stands behind the colon is no number, and there is no file of the whole name.
    """
    name, colon, strength = text.rpartition(":")
    if not colon or Path(text).exists():
        return Path(text), 1.0
    try:
        return Path(name), float(strength)
    except ValueError as error:
        raise FirstFrameError(f"--lora {text!r}: a file and its strength, for example look.safetensors:0.8") from error


def files_of(checkpoint: Path | None, loras: list[str], **files: Path | None) -> ModelFiles | None:
    """The files of a model; None for the tiny one.

    Raises:
        FirstFrameError: other files are given without a checkpoint.
    """
    from ..bindings.diffusers.models import ModelFiles

    given = {name: path for name, path in files.items() if path}
    if checkpoint is None:
        if given or loras:
            names = ", ".join([*given, *["lora"] * bool(loras)]).replace("_", " ")
            raise FirstFrameError(f"{names}: needs --checkpoint; the tiny model has its own modules")
        return None
    return ModelFiles(checkpoint, loras=dict(map(parse_lora, loras)), **given)


def names_of(files: ModelFiles | None) -> dict[str, Any]:
    """What a clip's metadata says of its model: the files' names, without their folders."""
    if files is None:
        return {}
    named = {kind: path.name for kind, path in vars(files).items() if isinstance(path, Path)}
    return {"model": named | {"loras": {path.name: strength for path, strength in files.loras.items()}}}


def load_video_model(files: ModelFiles | None, device: str, offload: bool) -> VideoModel:
    """The model of ``files``, or the tiny one; device "" takes a GPU if there is one."""
    where = resolve_device(device)
    if files is None:
        from ..tiny.model import load_tiny

        return load_tiny(where)
    from ..bindings.diffusers.models import load_model

    return load_model(files, where, offload=offload)
