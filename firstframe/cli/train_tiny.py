"""``firstframe train tiny …``: the stages that make the tiny model, in the order in which they run.

Each stage reads what the one before it left in the folder and goes on from its own checkpoint if it was cut off.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Device, resolve_device

if TYPE_CHECKING:
    from ..tiny.recipe import Run

app = typer.Typer(
    help="Train the tiny model, stage by stage, in this order.",
    no_args_is_help=True,
)
Folder = Annotated[Path, typer.Option("--folder", help="Where scenes, latents, checkpoints and logs go.")]
Count = Annotated[int, typer.Option(help="How many scenes.")]
Steps = Annotated[int, typer.Option(help="Optimiser steps in all.")]
Rate = Annotated[float, typer.Option("--lr", help="Peak learning rate.")]
Batch = Annotated[int, typer.Option(help="Crops, images or clips in a batch.")]
Shown = Annotated[int, typer.Option(help="Frames of each clip that a batch shows, frame 0 among them.")]
RUNS = Path("runs/tiny")


def _run(folder: Path, device: str, steps: int, lr: float, batch_size: int, shown: int = 1) -> Run:
    from ..tiny.recipe import Run

    return Run(folder, resolve_device(device), steps, lr, batch_size, shown)


@app.command()
def scenes(folder: Folder = RUNS, count: Count = 1500) -> None:
    """Render the training scenes."""
    from ..tiny.data import render_scenes

    folder.mkdir(parents=True, exist_ok=True)
    render_scenes(folder / "scenes.npy", count)


@app.command()
def autoencoder(
    folder: Folder = RUNS,
    steps: Steps = 1000,
    lr: Rate = 1e-3,
    batch_size: Batch = 8,
    count: Count = 1500,
    device: Device = "",
) -> None:
    """Train the autoencoder on crops of 64 x 64 pixels, from the scenes and from real images."""
    from ..tiny.recipe import train_autoencoder

    train_autoencoder(_run(folder, device, steps, lr, batch_size), count)


@app.command()
def latents(folder: Folder = RUNS, count: Count = 1000, device: Device = "") -> None:
    """Encode the scenes with the trained autoencoder."""
    from ..tiny.recipe import encode

    encode(folder, count, resolve_device(device))


@app.command()
def decoder(
    folder: Folder = RUNS,
    steps: Steps = 3000,
    lr: Rate = 1e-3,
    batch_size: Batch = 8,
    count: Count = 1500,
    device: Device = "",
) -> None:
    """Train the decoder on, with the encoder as it is: what was trained on its latents stays valid."""
    from ..tiny.recipe import train_decoder

    train_decoder(_run(folder, device, steps, lr, batch_size), count)


@app.command()
def text(
    folder: Folder = RUNS,
    steps: Steps = 500,
    lr: Rate = 1e-3,
    batch_size: Batch = 32,
    count: Count = 1500,
    device: Device = "",
) -> None:
    """Train the text encoder alone to know all words of a caption in each of its states."""
    from ..tiny.recipe import train_text

    train_text(_run(folder, device, steps, lr, batch_size), count)


@app.command("pictures")
def images(
    folder: Folder = RUNS, steps: Steps = 450, lr: Rate = 1e-3, batch_size: Batch = 64, device: Device = ""
) -> None:
    """Train text encoder and UNet on single frames: text to image."""
    from ..tiny.recipe import train_base

    train_base(_run(folder, device, steps, lr, batch_size), "pictures")


@app.command()
def clips(
    folder: Folder = RUNS,
    steps: Steps = 900,
    lr: Rate = 1e-3,
    batch_size: Batch = 16,
    shown: Shown = 4,
    device: Device = "",
) -> None:
    """Train everything on a few frames of many clips, starting from the text-to-image model: text to video.

    Most of the clips show their first frame without noise: what the words say of motion is learned faster where it is
    plain what moves.
    """
    from ..tiny.recipe import train_base

    train_base(_run(folder, device, steps, lr, batch_size, shown), "clips")


@app.command()
def whole(
    folder: Folder = RUNS,
    steps: Steps = 700,
    lr: Rate = 6e-4,
    batch_size: Batch = 4,
    shown: Shown = 16,
    device: Device = "",
) -> None:
    """Train the text-to-video model on whole clips, all noise: the base, which has to forget the clean first frame."""
    from ..tiny.recipe import train_base

    train_base(_run(folder, device, steps, lr, batch_size, shown), "whole")


@app.command()
def adapter(
    folder: Folder = RUNS,
    steps: Steps = 600,
    lr: Rate = 2e-3,
    batch_size: Batch = 16,
    shown: Shown = 4,
    device: Device = "",
) -> None:
    """Train the I2V adapter on the frozen base, with a clean first frame."""
    from ..tiny.recipe import train_adapter

    train_adapter(_run(folder, device, steps, lr, batch_size, shown))


@app.command()
def adapter_whole(
    folder: Folder = RUNS,
    steps: Steps = 300,
    lr: Rate = 1e-3,
    batch_size: Batch = 4,
    shown: Shown = 16,
    device: Device = "",
) -> None:
    """Train the adapter on, on whole clips: there the motion module carries less of the clean frame to the others."""
    from ..tiny.recipe import train_adapter_whole

    train_adapter_whole(_run(folder, device, steps, lr, batch_size, shown))


@app.command()
def retention(
    folder: Folder = RUNS,
    steps: Steps = 600,
    lr: Rate = 1e-3,
    batch_size: Batch = 16,
    shown: Shown = 4,
    device: Device = "",
) -> None:
    """Train the frame retention branch on the frozen base, alone and beside the frozen adapter."""
    from ..tiny.recipe import train_retention

    train_retention(_run(folder, device, steps, lr, batch_size, shown))


@app.command()
def look(
    folder: Folder = RUNS,
    steps: Steps = 150,
    lr: Rate = 5e-4,
    batch_size: Batch = 16,
    shown: Shown = 4,
    count: Count = 300,
    device: Device = "",
) -> None:
    """Tune the base to another look with a LoRA, as community checkpoints are: the motion module stays as it is."""
    from ..tiny.recipe import train_look

    train_look(_run(folder, device, steps, lr, batch_size, shown), count)


@app.command()
def export(
    parts: Annotated[list[str], typer.Argument(help="Any of: autoencoder, base, adapter, retention, look.")],
    folder: Folder = RUNS,
) -> None:
    """Write trained parts into the package, as fp16 safetensors."""
    from ..tiny.export import export_adapter, export_autoencoder, export_base, export_look, export_retention

    writers = {
        "autoencoder": export_autoencoder,
        "base": export_base,
        "adapter": export_adapter,
        "retention": export_retention,
        "look": export_look,
    }
    for part in parts:
        writers[part](folder)
