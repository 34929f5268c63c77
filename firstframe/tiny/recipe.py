"""The stages that make the tiny model, in the order in which they run.

Each stage reads what the one before it left in the folder, and goes on from its own checkpoint if it was cut off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import AutoencoderTiny
from diffusers.training_utils import set_seed
from torch import nn

from ..bindings.diffusers import Injection, inject
from ..training.data import ClipBatch
from ..training.loop import LoopConfig, Loss, train
from ..training.losses import RetentionLoss, VideoLoss
from ..training.start import new_adapter, new_retention
from ..weights import RETENTION, save, save_state_dict
from .autoencoder import open_autoencoder, start_from_thumbnail
from .autoencoder_loss import AutoencoderLoss
from .config import AUTOENCODER, STEM_CHANNELS
from .data import caption_batches, encode_scenes, frame_crops, open_latents, render_scenes
from .denoiser import Denoiser, alphas_cumprod, new_base, new_motion, with_adapter
from .recall import CaptionLoss, Recall, RecallingLoss, tiny_word_dropout
from .scenes import dusk
from .style_lora import add_lora, lora_weights

CROP = 64


@dataclass(frozen=True)
class Run:
    """How long a stage trains, and where.

    Attributes:
        folder: of all stages: scenes, latents, and a folder for each stage.
        device: that computes.
        steps: optimiser steps in all.
        learning_rate: at its peak.
        batch_size: crops, captions or clips in a batch.
        shown: frames of each clip that a batch shows, frame 0 among them.
    """

    folder: Path
    device: torch.device
    steps: int
    learning_rate: float
    batch_size: int
    shown: int = 1

    def file(self, stage: str) -> Path:
        """What a stage leaves for the next."""
        return self.folder / stage / "final.safetensors"

    def train(
        self, stage: str, model: nn.Module, batches: Callable[[int], Any], loss: Loss, precision: str = "bf16"
    ) -> None:
        """Train a model in the folder of a stage."""
        config = LoopConfig(self.steps, self.learning_rate, self.batch_size, precision=precision)
        train(model, batches, loss, config, self.folder / stage, self.device)

    def clips(self, seed: int, images: bool = False) -> Callable[[int], ClipBatch]:
        """Batches of encoded scenes, which are on the device as a whole."""
        scenes = self.folder / "scenes.npy" if images else None
        clips = open_latents(self.folder / "latents.safetensors", scenes).to(self.device)
        return clips.batches(self.batch_size, self.shown, seed)

    def video_loss(self, injection: Injection, clean_share: float = 0.0) -> VideoLoss:
        """The loss of clips in the tiny model's words, under its noise schedule."""
        return VideoLoss(
            injection, alphas_cumprod().to(self.device), tiny_word_dropout(self.device), clean_share=clean_share
        )


def encode(folder: Path, count: int, device: torch.device) -> None:
    """Encode the scenes with the trained autoencoder."""
    model = open_autoencoder(folder / "autoencoder" / "final.safetensors")
    encode_scenes(
        render_scenes(folder / "scenes.npy", count),
        model.to(device, memory_format=torch.channels_last),
        folder / "latents.safetensors",
    )


def train_autoencoder(run: Run, count: int) -> None:
    """Train the autoencoder on crops of scenes and of real images, in fp32."""
    set_seed(0)
    model = AutoencoderTiny(**AUTOENCODER).to(memory_format=torch.channels_last)
    start_from_thumbnail(model)
    _train_on_crops(run, model, "autoencoder", count, seed=0)


def train_decoder(run: Run, count: int) -> None:
    """Train the decoder on, with the encoder as it is: what was trained on its latents stays valid."""
    model = open_autoencoder(run.file("autoencoder"))
    model.encoder.requires_grad_(False)
    _train_on_crops(run, model, "decoder", count, seed=8)


def _train_on_crops(run: Run, model: AutoencoderTiny, stage: str, count: int, seed: int) -> None:
    batches = frame_crops(render_scenes(run.folder / "scenes.npy", count), run.batch_size, CROP, seed)
    run.train(stage, model, batches, AutoencoderLoss.on(run.device), precision="no")
    save_state_dict(run.file(stage), model.state_dict(), {})


def train_text(run: Run, count: int) -> None:
    """Train the text encoder alone to know all words of a caption in each of its states, in fp32."""
    set_seed(1)
    model = new_base()
    model.unet.requires_grad_(False)
    model.parts["recall"] = Recall()
    batches = caption_batches(run.batch_size, count, 1, run.device)
    run.train("text", model, batches, CaptionLoss(tiny_word_dropout(run.device)), precision="no")
    del model.parts["recall"]
    model.save(run.file("text"))


class Base(NamedTuple):
    """A stage of the text-to-video base: the one before it, its seed, and in how many clips frame 0 is clean."""

    before: str
    seed: int
    clean_share: float = 0.0


BASES = {"pictures": Base("text", 2), "clips": Base("pictures", 3, clean_share=0.8), "whole": Base("clips", 5)}


def train_base(run: Run, stage: str) -> None:
    """Train text encoder, UNet and, where more than one frame is shown, the motion module."""
    base = BASES[stage]
    set_seed(base.seed)
    motion = new_motion() if run.shown > 1 else None
    model = new_base(run.file(base.before), **({} if motion is None else {"motion": motion}))
    model.parts["recall"] = Recall()
    with inject(model.unet, motion, num_frames=run.shown) as injection:
        loss = RecallingLoss(run.video_loss(injection, base.clean_share))
        run.train(stage, model, run.clips(base.seed), loss)
    del model.parts["recall"]
    model.save(run.file(stage))


def train_adapter(run: Run) -> None:
    """Train the I2V adapter on the frozen base, with a clean first frame."""
    model = new_base(run.file("whole"), motion=new_motion())
    model.parts["adapter"] = new_adapter(model.unet)
    _train_adapter(run, model, "adapter", seed=4)


def train_adapter_whole(run: Run) -> None:
    """Train the adapter on, on whole clips."""
    _train_adapter(run, with_adapter(run.file("adapter")), "adapter_whole", seed=9)


def _train_adapter(run: Run, model: Denoiser, stage: str, seed: int) -> None:
    model.requires_grad_(False)
    model.adapter.requires_grad_(True)
    with inject(model.unet, model.motion, model.adapter, num_frames=run.shown) as injection:
        run.train(stage, model, run.clips(seed), run.video_loss(injection, clean_share=1.0))
    model.save(run.file(stage))


def train_retention(run: Run) -> None:
    """Train the frame retention branch on the frozen base, alone and beside the frozen adapter."""
    set_seed(6)
    model = with_adapter(run.file("adapter_whole")).requires_grad_(False)
    branch = model.parts["retention"] = new_retention(model.unet, model.motion, STEM_CHANNELS)
    with inject(model.unet, model.motion, model.adapter, num_frames=run.shown) as injection:
        loss = RetentionLoss(injection, branch, run.video_loss(injection), run.video_loss(injection, clean_share=1.0))
        run.train("retention", model, run.clips(6, images=True), loss)
    save(RETENTION, run.file("retention"), branch, dtype=torch.float32)


def train_look(run: Run, count: int) -> None:
    """Tune the base to another look with a LoRA, as community checkpoints are: the motion module stays as it is."""
    latents = run.folder / "look_latents.safetensors"
    if not latents.exists():
        at_dusk = (dusk(clip) for clip in render_scenes(run.folder / "scenes.npy", count))
        encode_scenes(at_dusk, open_autoencoder(run.file("autoencoder")).to(run.device), latents)
    set_seed(7)
    model = new_base(run.file("whole"), motion=new_motion()).requires_grad_(False)
    add_lora(model.unet)
    batches = open_latents(latents).to(run.device).batches(run.batch_size, run.shown, seed=7)
    with inject(model.unet, model.motion, num_frames=run.shown) as injection:
        run.train("look", model, batches, run.video_loss(injection))
    save_state_dict(run.file("look"), lora_weights(model.unet), {})
