"""One of several trainings after one another: a module on batches of its own, for as long as it is given."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import set_seed
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from .config import TrainTable
from .data import DRAWS, seed_of
from .loop import Job, Loop, Watcher
from .recorded import RecordedStep

Loss = Callable[[Any, Any], Tensor]
PACE_STEPS, LEAST_STEPS = 5, 20
TOLD = {"learning_rate", "batch_size", "lr_warmup_steps", "ema_decay", "weight_decay", "seed"}


def stage_job(
    model: nn.Module, batches: Callable[[int], Any], loss: Loss, settings: TrainTable, device: torch.device
) -> Job:
    """Train the parameters of ``model`` that require gradients; in bf16 on a GPU, by a recorded step.

    Args:
        model: moved to ``device``.
        batches: the batch of each number, from 0; its tensors are moved to ``device`` where they are not there.
        loss: ``loss(model, batch)`` -> scalar. Its draws are PyTorch's own.
        settings: whose seed is that of all draws.
        device: where everything is computed.
    """

    def batch_of(number: int) -> Any:
        batch = _moved(batches(number), device)
        set_seed(seed_of(DRAWS, settings.seed, number))
        return batch

    weights = {name: weight for name, weight in model.to(device).named_parameters() if weight.requires_grad}
    record = settings.model_dump(include=TOLD) | {"precision": settings.mixed_precision}
    job = Job(model, weights, lambda model, number: loss(model, batch_of(number)), record)
    if device.type != "cuda" or settings.mixed_precision != "bf16":
        return job
    step = RecordedStep(model, weights, loss)
    return replace(job, recorded=lambda number: step(batch_of(number)))


def train_stage(job: Job, settings: TrainTable, device: torch.device, watchers: Sequence[Watcher] = ()) -> None:
    """Train a module, which ends with the averaged weights in place. A run that was cut off goes on.

    Raises:
        KeyboardInterrupt: after Ctrl-C, with everything saved.
    """
    loop = Loop(job, settings, Accelerator(cpu=device.type == "cpu"))
    if loop.run(watchers, resume=loop.checkpoint.exists()) < settings.max_train_steps:
        raise KeyboardInterrupt
    loop.state.averages.swap()


def planned_steps(folder: Path, seconds: float, pace: Callable[[], float]) -> int:
    """How many steps a run makes in ``seconds``; a run that began keeps its number.

    Args:
        folder: of the run.
        seconds: that it may take.
        pace: measures the seconds of a step.
    """
    config = folder / "config.json"
    if config.exists():
        steps: int = json.loads(config.read_text("utf-8"))["steps"]
        return steps
    return max(LEAST_STEPS, round(seconds / pace()))


def pace(job: Job, settings: TrainTable, device: torch.device) -> float:
    """Seconds of a step, on the mean of a few after one that is not counted. The weights are put back."""
    before = [weight.detach().clone() for weight in job.weights.values()]
    loop = Loop(job, settings, Accelerator(cpu=device.type == "cpu"))

    def seconds_of(steps: int) -> float:
        started = time.monotonic()
        losses = [loop.advance()[0] for _ in range(steps)]
        losses[-1].item()
        return (time.monotonic() - started) / steps

    with loop.computing():
        seconds_of(1)
        seconds = seconds_of(PACE_STEPS)
        if seconds < 1 / PACE_STEPS:
            seconds = seconds_of(round(1 / seconds))
    for weight, kept in zip(job.weights.values(), before, strict=True):
        weight.data.copy_(kept)
    return seconds


def _moved(batch: Any, device: torch.device) -> Any:
    return tree_map_only(Tensor, lambda tensor: tensor.to(device, non_blocking=True), batch)
