"""Options that several commands share, and what is made of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import FirstFrameError

if TYPE_CHECKING:
    import torch

    from ..sampling.guidance import DualGuidance
    from ..tiny.model import TinyModel

Frames = Annotated[
    int, typer.Option(help="Number of frames, at most what the motion module has positions for. Tiny model: 16.")
]
Steps = Annotated[int, typer.Option(help="Sampling steps (DDIM).")]
Cfg = Annotated[float, typer.Option(help="How strictly the prompt is followed; 1 = no guidance.")]
ImageScale = Annotated[
    float | None,
    typer.Option(help="How much more the image counts than without it; 1 = neutral. Takes the place of --cfg."),
]
TextScale = Annotated[
    float | None,
    typer.Option(help="How much more the text counts than without it; 1 = neutral. As --cfg if not given."),
]
Seed = Annotated[int, typer.Option(help="The same seed gives the same clip.")]
Keep = Annotated[
    float,
    typer.Option(help="Share of the image that stays sharp at the start, 0 to 1 (1 - the paper's p). Less moves more."),
]
Start = Annotated[
    float, typer.Option(help="t0: where in the noise schedule to start, up to 1; less is nearer to the image.")
]
Device = Annotated[str, typer.Option(help="cuda, mps or cpu. By default, the first of these that is available.")]
Scenes = Annotated[int, typer.Option(help="Number of scenes.")]
Report = Annotated[Path, typer.Option("-o", "--out", "--report", help="Folder to write to.")]


def guidance_of(cfg: float, image_scale: float | None, text_scale: float | None) -> DualGuidance | None:
    """Dual guidance where one of its scales is given; None leaves ``cfg``."""
    from ..sampling.guidance import DualGuidance

    if image_scale is None and text_scale is None:
        return None
    return DualGuidance(1.0 if image_scale is None else image_scale, cfg if text_scale is None else text_scale)


def resolve_device(name: str) -> torch.device:
    """The device that an option names; "" takes CUDA, else MPS, else the CPU.

    Raises:
        FirstFrameError: PyTorch knows no such device, or finds none on this machine.
    """
    import torch

    counts = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    if not name:
        return torch.device(next(kind for kind, count in counts.items() if count))
    kind, _, index = name.partition(":")
    if kind not in counts or (index and not index.isdecimal()):
        raise FirstFrameError(f"there is no device {name!r}: give cuda, mps or cpu, or none to have it found")
    if int(index or 0) >= counts[kind]:
        raise FirstFrameError(
            f"device {name}: PyTorch {torch.__version__} finds {counts[kind]} {kind.upper()} devices here; "
            "use another one, or install a PyTorch that is built for it"
        )
    return torch.device(name)


def load_model(device: str) -> TinyModel:
    """The tiny model on a device; "" takes a GPU if there is one."""
    from ..tiny.model import load_tiny

    return load_tiny(resolve_device(device))
