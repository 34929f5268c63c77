"""What a training will take: one step of it is run and measured."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from accelerate import Accelerator

from ..bindings.diffusers import unet_config
from ..modules.layers import SIZES_CHANNELS
from ..modules.text import Text
from .clips.batches import Batch
from .clips.plan import Plan, Sample
from .config import TrainTable
from .denoiser import ClipDenoiser
from .log import memory_used
from .objective import Objective
from .precision import forward_in
from .target import Target

STATES = {"adamw": 8, "adamw8bit": 2}
"""Bytes of the optimiser's states for each trained weight."""


@dataclass(frozen=True)
class Estimate:
    """Of one step of the largest batch.

    Attributes:
        trained: number of trained weights.
        seconds: of an optimiser step.
        memory_gb: at its peak, with the states of the optimiser, in GB (10^9 bytes).
    """

    trained: int
    seconds: float
    memory_gb: float

    def in_words(self, settings: TrainTable) -> str:
        """One line."""
        hours = self.seconds * settings.max_train_steps / 3600
        return (
            f"{self.trained / 1e6:.1f} million weights are trained; {self.seconds:.2f} s for a step, "
            f"{hours:.1f} h for {settings.max_train_steps} steps, {self.memory_gb:.1f} GB of memory"
        )


def measure(
    target: Target, plan: Plan, objective: Objective, settings: TrainTable, accelerator: Accelerator
) -> Estimate:
    """Run two steps of the largest samples with random numbers, and time the second. No weight changes."""
    model = accelerator.prepare(target.denoiser)
    largest = max(plan.train, key=lambda sample: sample.size.width * sample.size.height * len(sample.frames))
    batch = _random(largest, settings.batch_size, target.denoiser).to(accelerator.device)
    empty = batch.text.map(lambda tensor: tensor[:1])
    seconds = 0.0
    for _ in range(2):
        began = time.monotonic()
        precise = forward_in(settings.mixed_precision, target.denoiser, accelerator.device)
        with precise, target.denoiser.attached(settings.gradient_checkpointing):
            generator = torch.Generator().manual_seed(0)
            accelerator.backward(target.loss(model, batch, empty, objective, generator))
        memory = memory_used(accelerator.device)  # waits for no device, and needs not to
        if accelerator.device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.monotonic() - began
    trained = sum(weight.numel() for weight in target.weights.values())
    for weight in target.weights.values():
        weight.grad = None
    bytes_each = STATES[settings.optimizer_type] + (4 if settings.ema_decay else 0)
    steps = settings.gradient_accumulation_steps
    return Estimate(trained, seconds * steps, memory + trained * bytes_each / 1e9)


def _random(sample: Sample, batch_size: int, denoiser: ClipDenoiser) -> Batch:
    unet, content = unet_config(denoiser.unet), denoiser.content
    size = sample.size
    latents = torch.randn(batch_size, 4, len(sample.frames), size.height // 8, size.width // 8)
    images = torch.rand(batch_size, 3, size.height, size.width)
    pooled = None if unet.pooled_channels is None else torch.randn(batch_size, unet.pooled_channels - SIZES_CHANNELS)
    features = content.no_image.expand(batch_size, -1, -1) if content else None
    return Batch(latents, Text(torch.randn(batch_size, 77, unet.cross_attention_dim), pooled), images, features)
