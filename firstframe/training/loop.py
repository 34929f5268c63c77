"""The training loop that every stage shares: AdamW, cosine rate, EMA, checkpoints, log."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel, set_seed
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from .data import DRAWS, seed_of
from .log import Log
from .precision import forward_in_bf16

Loss = Callable[[Any, Any], Tensor]
M = TypeVar("M", bound=nn.Module)
PACE_STEPS, LEAST_STEPS = 5, 20


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast.

    Attributes:
        steps: optimiser steps in all; the learning rate falls along a cosine to zero at the last one.
        learning_rate: at its peak, after ``warmup`` steps.
        batch_size: of the batches, for the record.
        warmup: steps.
        ema_decay: of the averaged weights that are saved; warmed up from 0, so that early weights fade.
        weight_decay: of AdamW.
        precision: "bf16" or "no", of the model's forward pass; weights, averages and the loss stay fp32.
        save_every: seconds between two checkpoints.
        watch_every: seconds between two looks at what the model makes.
        log_every: steps to a line of the log. Checkpoints are written with lines of the log.
        seed: every draw of a step follows from it and from the step's number.
    """

    steps: int
    learning_rate: float
    batch_size: int
    warmup: int = 50
    ema_decay: float = 0.998
    weight_decay: float = 1e-2
    precision: str = "bf16"
    save_every: float = 120.0
    watch_every: float = 600.0
    log_every: int = 20
    seed: int = 0


def train(
    model: M,
    batches: Callable[[int], Any],
    loss: Loss,
    config: LoopConfig,
    folder: Path,
    device: torch.device,
    watch: Callable[[int], None] | None = None,
) -> M:
    """Train the parameters of ``model`` that require gradients.

    A run that was cut off goes on from its last checkpoint in ``folder`` when called again, with the batches and the
    draws that it would have had.

    Args:
        model: the module to train, moved to ``device`` and handed to ``loss`` with a batch.
        batches: the batch of each step, from 0; its tensors are moved to ``device`` where they are not there.
        loss: ``loss(model, batch)`` -> scalar.
        config: see `LoopConfig`.
        folder: gets ``checkpoint.pt``, ``config.json`` and ``log.jsonl``.
        device: where everything is computed.
        watch: told the number of steps every ``watch_every`` seconds, while the model has the averaged weights.

    Returns:
        The model, with the averaged weights in place.
    """
    state = _State(model.to(device), config)
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        state.load_state_dict(torch.load(checkpoint, map_location=device, weights_only=True))
    cast = forward_in_bf16(model, device) if config.precision == "bf16" else nullcontext()
    saved = watched = time.monotonic()
    with cast, Log(folder, asdict(config), state.step, config.log_every) as log:
        while state.step < config.steps:
            set_seed(seed_of(DRAWS, config.seed, state.step))
            batch = _moved(batches(state.step), device)
            value = loss(model, batch)
            torch.autograd.backward(value)
            rate = state.update()
            line = log.add(value.detach(), rate)
            if state.step == config.steps or (line and time.monotonic() - saved >= config.save_every):
                _save(state.state_dict(), checkpoint)
                saved = time.monotonic()
            if watch and line and time.monotonic() - watched >= config.watch_every:
                state.show_average(watch)
                watched = time.monotonic()
    state.ema.copy_to(state.weights)
    return model


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


def pace(
    model: nn.Module, batches: Callable[[int], Any], loss: Loss, config: LoopConfig, device: torch.device
) -> float:
    """Seconds of a step without its update: the median of a few, after one that is not counted."""
    model.to(device)
    taken = []
    with forward_in_bf16(model, device) if config.precision == "bf16" else nullcontext():
        for step in range(PACE_STEPS + 1):
            started = time.monotonic()
            value = loss(model, _moved(batches(step), device))
            torch.autograd.backward(value)
            value.item()
            taken.append(time.monotonic() - started)
    model.zero_grad()
    return statistics.median(taken[1:])


def _moved(batch: Any, device: torch.device) -> Any:
    return tree_map_only(Tensor, lambda tensor: tensor.to(device, non_blocking=True), batch)


def _save(state: dict[str, Any], file: Path) -> None:
    """In two steps, so that a run that is cut off meanwhile keeps its last checkpoint."""
    unfinished = file.with_suffix(".part")
    torch.save(state, unfinished)
    unfinished.replace(file)


class _State:
    """Everything that changes from step to step."""

    def __init__(self, model: nn.Module, config: LoopConfig) -> None:
        self.step = 0
        self.model = model
        self.weights = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.weights, lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.99), fused=True
        )
        self.schedule = get_cosine_schedule_with_warmup(self.optimizer, config.warmup, config.steps)
        self.ema = EMAModel(self.weights, decay=config.ema_decay, use_ema_warmup=True, power=0.75, foreach=True)
        self.ema.to(self.weights[0].device)

    def update(self) -> float:
        """One step of the optimiser; the learning rate of the next."""
        nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        self.ema.step(self.weights)
        self.step += 1
        rate: float = self.schedule.get_last_lr()[0]
        return rate

    def show_average(self, watch: Callable[[int], None]) -> None:
        """Call ``watch`` while the model has the averaged weights."""
        self.ema.store(self.weights)
        self.ema.copy_to(self.weights)
        watch(self.step)
        self.ema.restore(self.weights)

    @property
    def _parts(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer, "schedule": self.schedule, "ema": self.ema}

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, **{name: part.state_dict() for name, part in self._parts.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        for name, part in self._parts.items():
            part.load_state_dict(state[name])
