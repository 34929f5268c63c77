"""The stages that make the tiny model, in the order in which they run.

Each stage reads what the one before it left in the folder, and goes on from its own checkpoint if it was cut off.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers.training_utils import set_seed
from torch import nn

from ..bindings.diffusers import Injection, inject
from ..training.config import TrainTable
from ..training.data import ClipBatch, LatentClips
from ..training.loop import Clock, Watcher
from ..training.losses import RetentionLoss, VideoLoss
from ..training.precision import Precision
from ..training.stage import Loss, pace, planned_steps, stage_job, train_stage
from ..training.start import new_adapter, new_retention
from ..weights import I2V_ADAPTER, RETENTION, load, save, save_state_dict
from .autoencoder import open_autoencoder
from .config import STEM_CHANNELS
from .data import caption_batches
from .denoiser import Denoiser, alphas_cumprod, new_base, new_motion, with_adapter
from .files import AUTOENCODER_FILE, BEGUN_WITH, weights_file
from .recall import CaptionLoss, Recall, RecallingLoss, tiny_word_dropout
from .samples import draw_samples
from .stem import StemReadout, stem_loss
from .style_lora import add_lora, lora_weights

HOW: dict[str, Any] = {
    "lr_scheduler": "cosine",
    "lr_warmup_steps": 50,
    "adam_beta2": 0.99,
    "ema_decay": 0.998,
    "save_every_n_steps": sys.maxsize,
    "checkpoint_every_n_minutes": 2.0,
    "log_every_n_steps": 20,
}
"""What all stages have in common, in the words of `TrainTable`."""

WATCHED = ("clips", "whole", "adapter", "adapter_whole")
"""Stages that show sample frames while they run."""


@dataclass(frozen=True)
class Run:
    """How long a stage trains, and where.

    Attributes:
        folder: of all stages.
        device: that computes.
        clips: encoded scenes, on the device.
        seconds: to train for; the first few steps tell how many that makes.
        learning_rate: at its peak.
        batch_size: captions or clips in a batch.
        shown: frames of each clip that a batch shows, frame 0 among them.
    """

    folder: Path
    device: torch.device
    clips: LatentClips
    seconds: float
    learning_rate: float
    batch_size: int
    shown: int = 1

    def file(self, stage: str) -> Path:
        """What a stage leaves for the next."""
        return self.folder / stage / "final.safetensors"

    def begun(self, part: str) -> Path | None:
        """The part that the whole run goes on from, if it does not begin with random weights."""
        file = weights_file(part, self.folder / BEGUN_WITH)
        return file if file.exists() else None

    def train(
        self, stage: str, model: nn.Module, batches: Callable[[int], Any], loss: Loss, precision: Precision = "bf16"
    ) -> None:
        """Train a model in the folder of a stage."""
        settings = TrainTable(
            output_dir=self.folder / stage,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            mixed_precision=precision,
            **HOW,
        )
        job = stage_job(model, batches, loss, settings, self.device)
        steps = planned_steps(settings.output_dir, self.seconds, lambda: pace(job, settings, self.device))
        watchers = [Watcher(partial(self._draw, stage, model), clock=Clock(10.0))] if stage in WATCHED else []
        train_stage(job, settings.model_copy(update={"max_train_steps": steps}), self.device, watchers)

    def _draw(self, stage: str, model: nn.Module, step: int) -> dict[str, float]:
        """What the base, with its adapter if it has one, makes of held-out scenes."""
        autoencoder = open_autoencoder(self.folder / AUTOENCODER_FILE).to(self.device)
        with torch.random.fork_rng():
            draw_samples(model.state_dict(), autoencoder, self.folder / "samples" / f"{stage}_{step:05}.png")
        return {}

    def batches(self, seed: int) -> Callable[[int], ClipBatch]:
        """Batches of the encoded scenes."""
        return self.clips.batches(self.batch_size, self.shown, seed)

    def video_loss(self, injection: Injection, clean_share: float = 0.0, words: WordShares | None = None) -> VideoLoss:
        """The loss of clips in the tiny model's words, under its noise schedule."""
        return VideoLoss(
            injection,
            alphas_cumprod().to(self.device),
            tiny_word_dropout(self.device, *(words or BASE_WORDS)),
            clean_share=clean_share,
        )


class WordShares(NamedTuple):
    """Of captions whose words for appearance become unknown, or wrong ones."""

    unknown: float
    wrong: float


BASE_WORDS = WordShares(unknown=0.4, wrong=0.1)
IMAGE_WORDS = WordShares(unknown=0.4, wrong=0.3)
"""Where the first frame is shown, the words for what it shows may as well be wrong."""


def train_text(run: Run, count: int) -> None:
    """Train the text encoder alone to know all words of a caption in each of its states, in fp32."""
    set_seed(1)
    model = new_base()
    model.unet.requires_grad_(False)
    model.parts["recall"] = Recall()
    batches = caption_batches(run.batch_size, count, 1, run.device)
    run.train("text", model, batches, CaptionLoss(tiny_word_dropout(run.device, *BASE_WORDS)), precision="no")
    del model.parts["recall"]
    model.save(run.file("text"))


class Base(NamedTuple):
    """A stage of the text-to-video base: the one before it, its seed, and in how many clips frame 0 is clean."""

    before: str
    seed: int
    clean_share: float = 0.0


BASES = {
    "images": Base("text", 2),
    "clips": Base("images", 3, clean_share=0.8),
    "whole": Base("clips", 5, clean_share=0.3),
}


def train_base(run: Run, stage: str) -> None:
    """Train text encoder, UNet and, where more than one frame is shown, the motion module."""
    base = BASES[stage]
    set_seed(base.seed)
    model = new_base(run.file(base.before), motion=new_motion())
    model.parts["recall"] = Recall()
    with inject(model.unet, model.motion if run.shown > 1 else None, num_frames=run.shown) as injection:
        loss = RecallingLoss(run.video_loss(injection, base.clean_share))
        run.train(stage, model, run.batches(base.seed), loss)
    del model.parts["recall"]
    model.save(run.file(stage))


def train_adapter(run: Run) -> None:
    """Train the I2V adapter on the frozen base, with a clean first frame."""
    model = new_base(run.file("whole"), motion=new_motion())
    begun = run.begun("i2v_adapter")
    model.parts["adapter"] = load(I2V_ADAPTER, begun).float() if begun else new_adapter(model.unet)
    _train_adapter(run, model, "adapter", seed=4)


def train_adapter_whole(run: Run) -> None:
    """Train the adapter on, on whole clips: there the motion module carries less of the clean frame to the others."""
    _train_adapter(run, with_adapter(run.file("adapter")), "adapter_whole", seed=9)


def _train_adapter(run: Run, model: Denoiser, stage: str, seed: int) -> None:
    model.requires_grad_(False)
    model.adapter.requires_grad_(True)
    with inject(model.unet, model.motion, model.adapter, num_frames=run.shown) as injection:
        run.train(stage, model, run.batches(seed), run.video_loss(injection, 1.0, IMAGE_WORDS))
    model.save(run.file(stage))


def train_stem(run: Run) -> None:
    """Train the stem of a frame retention branch alone, to tell the latents of the image."""
    set_seed(6)
    model = with_adapter(run.file("adapter_whole"))
    begun = run.begun("retention")
    branch = load(RETENTION, begun).float() if begun else new_retention(model.unet, model.motion, STEM_CHANNELS)
    run.train("stem", StemReadout(branch), run.batches(8), stem_loss)
    save(RETENTION, run.file("stem"), branch, dtype=torch.float32)


def train_retention(run: Run) -> None:
    """Train the frame retention branch on the frozen base, alone and beside the frozen adapter."""
    model = with_adapter(run.file("adapter_whole")).requires_grad_(False)
    branch = model.parts["retention"] = load(RETENTION, run.file("stem")).float().requires_grad_(True)
    with inject(model.unet, model.motion, model.adapter, num_frames=run.shown) as injection:
        alone, beside = (run.video_loss(injection, share, IMAGE_WORDS) for share in (0.0, 1.0))
        run.train("retention", model, run.batches(6), RetentionLoss(injection, branch, alone, beside))
    save(RETENTION, run.file("retention"), branch, dtype=torch.float32)


def train_look(run: Run) -> None:
    """Tune the base to another look with a LoRA, as community checkpoints are: the motion module stays as it is."""
    set_seed(7)
    model = new_base(run.file("whole"), motion=new_motion()).requires_grad_(False)
    add_lora(model.unet)
    with inject(model.unet, model.motion, num_frames=run.shown) as injection:
        run.train("look", model, run.batches(7), run.video_loss(injection))
    save_state_dict(run.file("look"), lora_weights(model.unet), {})
