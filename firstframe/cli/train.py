"""``firstframe train …``: the stages that make the tiny model, in the order in which they run.

Each stage reads what the one before it left in the folder and goes on from its own checkpoint if it was cut off.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..training.diffusion import Denoiser

app = typer.Typer(
    help="Train the tiny model, stage by stage, in this order.",
    no_args_is_help=True,
)
Folder = Annotated[Path, typer.Option("--folder", help="Where scenes, latents, checkpoints and logs go.")]
Count = Annotated[int, typer.Option(help="How many scenes.")]
Steps = Annotated[int, typer.Option(help="Optimiser steps in all.")]
Rate = Annotated[float, typer.Option("--lr", help="Peak learning rate.")]
Batch = Annotated[int, typer.Option(help="Crops, pictures or clips in a batch.")]
Shown = Annotated[int, typer.Option(help="Frames of each clip that a batch shows, frame 0 among them.")]
RUNS = Path("runs/tiny")


@app.command()
def scenes(folder: Folder = RUNS, count: Count = 1500) -> None:
    """Render the training scenes."""
    from ..training.data import render_scenes

    folder.mkdir(parents=True, exist_ok=True)
    render_scenes(folder / "scenes.npy", count)


@app.command()
def autoencoder(
    folder: Folder = RUNS, steps: Steps = 1000, lr: Rate = 1e-3, batch_size: Batch = 8, count: Count = 1500
) -> None:
    """Train the autoencoder on crops of 64 x 64 pixels, from the scenes and from real pictures."""
    import torch
    from diffusers import AutoencoderTiny

    from ..tiny.autoencoder import autoencoder_loss, start_from_thumbnail
    from ..tiny.config import AUTOENCODER
    from ..training.data import frame_crops, render_scenes
    from ..training.loop import LoopConfig, train
    from ..weights import save_state_dict

    model = AutoencoderTiny(**AUTOENCODER).to(memory_format=torch.channels_last)
    start_from_thumbnail(model)
    batches = frame_crops(render_scenes(folder / "scenes.npy", count), batch_size, crop=64, seed=0)
    train(model, batches, autoencoder_loss, LoopConfig(steps, lr, batch_size), folder / "autoencoder")
    save_state_dict(folder / "autoencoder" / "final.safetensors", model.state_dict(), {})


@app.command()
def latents(folder: Folder = RUNS, count: Count = 1000) -> None:
    """Encode the scenes with the trained autoencoder."""
    import torch

    from ..tiny.autoencoder import open_autoencoder
    from ..training.data import encode_scenes, render_scenes

    model = open_autoencoder(folder / "autoencoder" / "final.safetensors").to(memory_format=torch.channels_last)
    encode_scenes(render_scenes(folder / "scenes.npy", count), model, folder / "latents.safetensors")


@app.command()
def decoder(
    folder: Folder = RUNS, steps: Steps = 3000, lr: Rate = 1e-3, batch_size: Batch = 8, count: Count = 1500
) -> None:
    """Train the decoder on, with the encoder as it is: what was trained on its latents stays valid."""
    from ..tiny.autoencoder import autoencoder_loss, open_autoencoder
    from ..training.data import frame_crops, render_scenes
    from ..training.loop import LoopConfig, train
    from ..weights import save_state_dict

    model = open_autoencoder(folder / "autoencoder" / "final.safetensors")
    model.encoder.requires_grad_(False)
    batches = frame_crops(render_scenes(folder / "scenes.npy", count), batch_size, crop=64, seed=8)
    train(model, batches, autoencoder_loss, LoopConfig(steps, lr, batch_size), folder / "decoder")
    save_state_dict(folder / "decoder" / "final.safetensors", model.state_dict(), {})


@app.command()
def text(
    folder: Folder = RUNS, steps: Steps = 500, lr: Rate = 1e-3, batch_size: Batch = 32, count: Count = 1500
) -> None:
    """Train the text encoder alone to know all words of a caption in each of its states."""
    from ..training.data import caption_batches
    from ..training.diffusion import Recall, caption_loss, new_base
    from ..training.loop import LoopConfig, train

    model = new_base()
    model.unet.requires_grad_(False)
    model.parts["recall"] = Recall()
    batches = caption_batches(batch_size, count, seed=1)
    train(model, batches, caption_loss, LoopConfig(steps, lr, batch_size), folder / "text")
    del model.parts["recall"]
    model.save(folder / "text" / "final.safetensors")


@app.command()
def pictures(folder: Folder = RUNS, steps: Steps = 450, lr: Rate = 1e-3, batch_size: Batch = 64) -> None:
    """Train text encoder and UNet on single frames: text to picture."""
    _train_base(folder, "text", "pictures", steps, lr, batch_size, shown=1, seed=2)


@app.command()
def clips(folder: Folder = RUNS, steps: Steps = 900, lr: Rate = 1e-3, batch_size: Batch = 16, shown: Shown = 4) -> None:
    """Train everything on a few frames of many clips, starting from the text-to-picture model: text to video.

    Most of the clips show their first frame without noise: what the words say of motion is learned faster where it is
    plain what moves.
    """
    _train_base(folder, "pictures", "clips", steps, lr, batch_size, shown, seed=3, clean_share=0.8)


@app.command()
def whole(folder: Folder = RUNS, steps: Steps = 700, lr: Rate = 6e-4, batch_size: Batch = 4, shown: Shown = 16) -> None:
    """Train the text-to-video model on whole clips, all noise: the base, which has to forget the clean first frame."""
    _train_base(folder, "clips", "whole", steps, lr, batch_size, shown, seed=5)


def _train_base(
    folder: Path,
    before: str,
    stage: str,
    steps: int,
    lr: float,
    batch_size: int,
    shown: int,
    seed: int,
    clean_share: float = 0.0,
) -> None:
    from ..bindings.diffusers import inject
    from ..training.data import open_latents
    from ..training.diffusion import Recall, VelocityLoss, new_base, new_motion
    from ..training.loop import LoopConfig, train

    motion = new_motion() if shown > 1 else None
    model = new_base(folder / before / "final.safetensors", **({} if motion is None else {"motion": motion}))
    model.parts["recall"] = Recall()
    batches = open_latents(folder / "latents.safetensors").batches(batch_size, shown, seed)
    with inject(model.unet, motion, num_frames=shown):
        loss = VelocityLoss(clean_share, recall=True)
        train(model, batches, loss, LoopConfig(steps, lr, batch_size), folder / stage)
    del model.parts["recall"]
    model.save(folder / stage / "final.safetensors")


@app.command()
def adapter(
    folder: Folder = RUNS, steps: Steps = 600, lr: Rate = 2e-3, batch_size: Batch = 16, shown: Shown = 4
) -> None:
    """Train the I2V adapter on the frozen base, with a clean first frame."""
    from ..training.diffusion import new_adapter, new_base, new_motion

    model = new_base(folder / "whole" / "final.safetensors", motion=new_motion())
    model.parts["adapter"] = new_adapter(model.unet)
    _train_adapter(model, folder, "adapter", steps, lr, batch_size, shown, seed=4)


@app.command()
def adapter_whole(
    folder: Folder = RUNS, steps: Steps = 300, lr: Rate = 1e-3, batch_size: Batch = 4, shown: Shown = 16
) -> None:
    """Train the adapter on, on whole clips: there the motion module carries less of the clean frame to the others."""
    from ..training.diffusion import new_adapter, new_base, new_motion

    model = new_base(motion=new_motion())
    model.parts["adapter"] = new_adapter(model.unet)
    model = new_base(folder / "adapter" / "final.safetensors", **dict(model.parts))
    _train_adapter(model, folder, "adapter_whole", steps, lr, batch_size, shown, seed=9)


def _train_adapter(
    model: Denoiser, folder: Path, stage: str, steps: int, lr: float, batch_size: int, shown: int, seed: int
) -> None:
    from ..bindings.diffusers import inject
    from ..training.data import open_latents
    from ..training.diffusion import VelocityLoss
    from ..training.loop import LoopConfig, train

    model.requires_grad_(False)
    model.adapter.requires_grad_(True)
    batches = open_latents(folder / "latents.safetensors").batches(batch_size, shown, seed)
    with inject(model.unet, model.motion, model.adapter, num_frames=shown):
        loss = VelocityLoss(clean_share=1.0)
        train(model, batches, loss, LoopConfig(steps, lr, batch_size), folder / stage)
    model.save(folder / stage / "final.safetensors")


@app.command()
def retention(
    folder: Folder = RUNS, steps: Steps = 600, lr: Rate = 1e-3, batch_size: Batch = 16, shown: Shown = 4
) -> None:
    """Train the frame retention branch on the frozen base, alone and beside the frozen adapter."""
    import torch

    from ..bindings.diffusers import inject
    from ..training.data import NUM_FRAMES, open_latents
    from ..training.diffusion import RetentionLoss, new_adapter, new_base, new_motion, new_retention, place_frames
    from ..training.loop import LoopConfig, train
    from ..weights import RETENTION, save

    model = new_base(motion=new_motion())
    model.parts["adapter"] = new_adapter(model.unet)
    model = new_base(folder / "adapter_whole" / "final.safetensors", **dict(model.parts)).requires_grad_(False)
    branch = model.parts["retention"] = new_retention(model.unet, model.motion)
    latents = open_latents(folder / "latents.safetensors", folder / "scenes.npy")
    batches, config = latents.batches(batch_size, shown, seed=6), LoopConfig(steps, lr, batch_size)
    with inject(model.unet, model.motion, model.adapter, num_frames=shown) as injection:
        train(model, batches, RetentionLoss(injection, branch), config, folder / "retention")
    place_frames(branch, torch.arange(NUM_FRAMES))
    save(RETENTION, folder / "retention" / "final.safetensors", branch, dtype=torch.float32)


@app.command()
def look(
    folder: Folder = RUNS,
    steps: Steps = 150,
    lr: Rate = 5e-4,
    batch_size: Batch = 16,
    shown: Shown = 4,
    count: Count = 300,
) -> None:
    """Tune the base to another look with a LoRA, as community checkpoints are: the motion module stays as it is."""
    from ..bindings.diffusers import inject
    from ..tiny.autoencoder import open_autoencoder
    from ..tiny.scenes import dusk
    from ..tiny.style_lora import add_lora, lora_weights
    from ..training.data import encode_scenes, open_latents, render_scenes
    from ..training.diffusion import VelocityLoss, new_base, new_motion
    from ..training.loop import LoopConfig, train
    from ..weights import save_state_dict

    latents = folder / "look_latents.safetensors"
    if not latents.exists():
        at_dusk = (dusk(clip) for clip in render_scenes(folder / "scenes.npy", count))
        encode_scenes(at_dusk, open_autoencoder(folder / "autoencoder" / "final.safetensors"), latents)
    model = new_base(folder / "whole" / "final.safetensors", motion=new_motion()).requires_grad_(False)
    add_lora(model.unet)
    batches = open_latents(latents).batches(batch_size, shown, seed=7)
    with inject(model.unet, model.motion, num_frames=shown):
        train(model, batches, VelocityLoss(), LoopConfig(steps, lr, batch_size), folder / "look")
    save_state_dict(folder / "look" / "final.safetensors", lora_weights(model.unet), {})


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
