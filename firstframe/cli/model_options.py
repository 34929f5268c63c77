"""Options that name a model: the tiny one, or files of weights; and what is made of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import FirstFrameError
from ..tiny.config import GUIDANCE, SIZE
from .options import Device, resolve_device

if TYPE_CHECKING:
    from ..bindings.diffusers.models import ModelFiles
    from ..bindings.diffusers.pipeline import VideoModel


@dataclass(frozen=True)
class Defaults:
    """What the options are where they are not given.

    Attributes:
        side: of the clip, pixels.
        cfg: guidance by the text.
    """

    side: int
    cfg: float


TINY, SD15 = Defaults(SIZE, GUIDANCE), Defaults(512, 7.5)


def _file(*names: str, words: str) -> Any:
    return typer.Option(*names, help=words, metavar="FILE")


@dataclass(frozen=True)
class ModelOptions:
    """A model: the tiny one where no checkpoint is given."""

    checkpoint: Annotated[
        Path | None,
        _file(words="Stable Diffusion 1.5, SDXL or a model made from one, in one file; the tiny model if not given."),
    ] = None
    motion_module: Annotated[
        Path | None,
        _file(words="AnimateDiff's motion module, AnimateLCM's, Hotshot-XL's, or one of your own."),
    ] = None
    i2v_adapter: Annotated[Path | None, _file("--i2v-adapter", words="An I2V adapter.")] = None
    retention_branch: Annotated[
        Path | None, _file(words="A frame retention branch. Its motion module is used if no other is given.")
    ] = None
    content_adapter: Annotated[Path | None, _file(words="IP-Adapter Plus, which also needs --clip-vision.")] = None
    projections: Annotated[
        Path | None, _file(words="Where the content adapter's projections are, if not in its own file.")
    ] = None
    clip_vision: Annotated[Path | None, _file(words="CLIP's image encoder ViT-H, for --content-adapter.")] = None
    vae: Annotated[Path | None, _file(words="A VAE in place of the checkpoint's.")] = None
    lora: Annotated[
        list[str],
        typer.Option(help="A LoRA and its strength (1 if not given). May be repeated.", metavar="FILE:STRENGTH"),
    ] = field(default_factory=list)
    offload: Annotated[
        bool, typer.Option(help="Keep each network on the CPU until it is its turn, for GPUs with 8 GB.")
    ] = False
    device: Device = ""

    def files(self) -> ModelFiles | None:
        """The files of the model; None for the tiny one.

        Raises:
            FirstFrameError: other files are given without a checkpoint.
        """
        from ..bindings.diffusers.models import ModelFiles

        given = {name: path for name, path in vars(self).items() if isinstance(path, Path)}
        if self.checkpoint is None:
            if given or self.lora:
                names = ", ".join([*given, *["lora"] * bool(self.lora)]).replace("_", " ")
                raise FirstFrameError(f"{names}: needs --checkpoint; the tiny model has its own modules")
            return None
        retention = given.pop("retention_branch", None)
        return ModelFiles(**given, retention=retention, loras=dict(map(parse_lora, self.lora)))

    def load(self) -> VideoModel:
        """The model of the files, or the tiny one; device "" takes a GPU if there is one."""
        where, files = resolve_device(self.device), self.files()
        if files is None:
            from ..tiny.model import load_tiny

            return load_tiny(where)
        from ..bindings.diffusers.models import load_model

        return load_model(files, where, offload=self.offload)


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


def names_of(files: ModelFiles | None) -> dict[str, Any]:
    """What a clip's metadata says of its model: the files' names, without their folders."""
    if files is None:
        return {}
    named = {kind: path.name for kind, path in vars(files).items() if isinstance(path, Path)}
    return {"model": named | {"loras": {path.name: strength for path, strength in files.loras.items()}}}
