"""``firstframe train …``: the stages that make the tiny model, in the order in which they run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from ..tiny.config import AUTOENCODER
from ..weights import save_state_dict
from .loop import LoopConfig, train

app = typer.Typer(help="Train the tiny model: scenes, autoencoder, latents, base, motion, adapter.", no_args_is_help=True)
Folder = Annotated[Path, typer.Option("--folder", help="Where scenes, latents, checkpoints and logs go.")]
Steps = Annotated[int, typer.Option(help="Optimiser steps in all.")]
Rate = Annotated[float, typer.Option("--lr", help="Peak learning rate.")]
RUNS = Path("runs/tiny")


@app.command()
def scenes(folder: Folder = RUNS, count: Annotated[int, typer.Option(help="How many.")] = 1500) -> None:
    """Render the training scenes."""
    from .data import render_scenes

    render_scenes(folder / "scenes.npy", count)


@app.command()
def autoencoder(
    folder: Folder = RUNS, steps: Steps = 2600, lr: Rate = 1e-3, batch_size: int = 8, crop: int = 64, count: int = 1500
) -> None:
    """Train the autoencoder on crops of the scenes and of real pictures."""
    from diffusers import AutoencoderTiny

    from .autoencoder import autoencoder_loss, start_from_thumbnail
    from .data import frame_crops, render_scenes

    frames = render_scenes(folder / "scenes.npy", count)
    model = AutoencoderTiny(**AUTOENCODER).to(memory_format=torch.channels_last)
    start_from_thumbnail(model)
    batches = frame_crops(frames, batch_size, crop, seed=0)
    train(model, batches, autoencoder_loss, LoopConfig(steps, lr), folder / "autoencoder")
    save_state_dict(folder / "autoencoder" / "final.safetensors", model.state_dict(), {})


@app.command()
def latents(folder: Folder = RUNS, count: Annotated[int, typer.Option(help="How many scenes.")] = 1500) -> None:
    """Encode the scenes with the trained autoencoder."""
    from .autoencoder import open_autoencoder
    from .data import encode_scenes, render_scenes

    model = open_autoencoder(folder / "autoencoder" / "final.safetensors").to(memory_format=torch.channels_last)
    encode_scenes(render_scenes(folder / "scenes.npy", count), model, folder / "latents.safetensors")


@app.command()
def pictures(folder: Folder = RUNS, steps: Steps = 2000, lr: Rate = 1e-3, batch_size: int = 64) -> None:
    """Train text encoder and UNet on single frames: text to picture."""
    from .data import open_latents
    from .diffusion import NoiseLoss, new_base

    model = new_base()
    batches = open_latents(folder / "latents.safetensors").batches(batch_size, 1, seed=2)
    train(model, batches, NoiseLoss(), LoopConfig(steps, lr), folder / "pictures")
    model.save(folder / "pictures" / "final.safetensors")


@app.command()
def clips(folder: Folder = RUNS, steps: Steps = 2000, lr: Rate = 1e-3, batch_size: int = 4) -> None:
    """Train everything on clips, starting from the text-to-picture model: text to video, the base."""
    from ..bindings.diffusers import inject
    from .data import NUM_FRAMES, open_latents
    from .diffusion import NoiseLoss, new_base, new_motion

    model = new_base(folder / "pictures" / "final.safetensors", motion=new_motion())
    batches = open_latents(folder / "latents.safetensors").batches(batch_size, NUM_FRAMES, seed=3)
    with inject(model.unet, model.parts["motion"], num_frames=NUM_FRAMES):
        train(model, batches, NoiseLoss(), LoopConfig(steps, lr), folder / "clips")
    model.save(folder / "clips" / "final.safetensors")


@app.command()
def adapter(folder: Folder = RUNS, steps: Steps = 1500, lr: Rate = 2e-3, batch_size: int = 4) -> None:
    """Train the I2V adapter on the frozen base, with a clean first frame."""
    from ..bindings.diffusers import inject
    from .data import NUM_FRAMES, open_latents
    from .diffusion import NoiseLoss, new_adapter, new_base, new_motion

    model = new_base(folder / "clips" / "final.safetensors", motion=new_motion())
    model.requires_grad_(False)
    model.parts["adapter"] = new_adapter(model.unet)
    batches = open_latents(folder / "latents.safetensors").batches(batch_size, NUM_FRAMES, seed=4)
    with inject(model.unet, model.parts["motion"], model.parts["adapter"], num_frames=NUM_FRAMES):
        train(model, batches, NoiseLoss(clean_first_frame=True), LoopConfig(steps, lr), folder / "adapter")
    model.save(folder / "adapter" / "final.safetensors")


@app.command()
def export(
    parts: Annotated[list[str], typer.Argument(help="Any of: autoencoder, base, adapter.")], folder: Folder = RUNS
) -> None:
    """Write trained parts into the package, as fp16 safetensors."""
    from .export import export_adapter, export_autoencoder, export_base

    writers = {"autoencoder": export_autoencoder, "base": export_base, "adapter": export_adapter}
    for part in parts:
        writers[part](folder)
