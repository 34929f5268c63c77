"""The training loop, on one or several devices, by accelerate."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ..errors import FirstFrameError
from .config import TrainTable
from .log import Log
from .optimiser import TrainingState, new_optimiser
from .precision import autocast, forward_in
from .stop import on_interrupt


@dataclass(frozen=True)
class Job:
    """What is trained.

    Attributes:
        model: the network, on its device.
        weights: those of its parameters that are trained, by name.
        loss: of the model, which may be wrapped, on the batch of a number, from 0, from which all draws follow.
        record: the configuration as JSON, for the log.
        fixed: what must not change when a training goes on.
        attached: what holds while a step is computed.
        save: writes what was trained in so many steps; meanwhile the model has the averaged weights.
        recorded: in place of ``loss``, the loss of the batch of a number, whose gradients it leaves in the weights.
    """

    model: nn.Module
    weights: Mapping[str, nn.Parameter]
    loss: Callable[[Any, int], Tensor]
    record: Mapping[str, Any]
    fixed: Mapping[str, str] = field(default_factory=dict)
    attached: Callable[[], AbstractContextManager[None]] = nullcontext
    save: Callable[[int], None] = lambda _: None
    recorded: Callable[[int], Tensor] | None = None


@dataclass
class Clock:
    """Rings every so many minutes; never, if None."""

    minutes: float | None
    since: float = field(default_factory=time.monotonic)

    def rings(self) -> bool:
        """Whether so much time has passed since it last rang."""
        if self.minutes is None or time.monotonic() - self.since < 60 * self.minutes:
            return False
        self.since = time.monotonic()
        return True


@dataclass(frozen=True)
class Watcher:
    """Something that looks at the model every so many steps, and before the first one; or by a clock.

    Attributes:
        look: from the steps done to numbers for the log.
        every: steps; 0 for none.
        clock: asked with each line of the log.
    """

    look: Callable[[int], dict[str, float]]
    every: int = 0
    clock: Clock = field(default_factory=lambda: Clock(None))

    def is_due(self, step: int, line: bool) -> bool:
        """Whether to look after so many steps; ``line`` says whether the log got one."""
        return bool(self.every and step % self.every == 0) or (line and self.clock.rings())


@dataclass
class Loop:
    """One training.

    Attributes:
        settings: how long and how fast; ``output_dir`` gets checkpoint.pt, log.jsonl and config.json.
    """

    job: Job
    settings: TrainTable
    accelerator: Accelerator

    def __post_init__(self) -> None:
        settings, weights = self.settings, self.job.weights
        optimiser = new_optimiser(weights.values(), settings)
        self.model, optimiser = self.accelerator.prepare(self.job.model, optimiser)
        self.state = TrainingState(weights, optimiser, settings.ema_decay)

    @property
    def checkpoint(self) -> Path:
        return self.settings.output_dir / "checkpoint.pt"

    def run(self, watchers: Sequence[Watcher] = (), resume: bool = False) -> int:
        """Train until the last step or Ctrl-C.

        A run that was cut off at any moment goes on from its last checkpoint with ``resume``, and ends with the same
        weights as one that was not.

        Returns:
            The steps done.

        Raises:
            FirstFrameError: there is a run in the folder already, or none to resume, or one of another configuration;
                or the weights are no longer finite.
        """
        settings, state = self.settings, self.state
        self._resume(resume)
        saving = Clock(settings.checkpoint_every_n_minutes)
        with ExitStack() as stack:
            stop, record = stack.enter_context(on_interrupt()), stack.enter_context(self._log())
            stack.enter_context(self.computing())
            if state.step == 0:
                self._watch([watcher for watcher in watchers if watcher.every], record)
            while state.step < settings.max_train_steps and not stop.asked:
                loss, rate = self.advance()
                line = record.add(loss, rate)
                if line and not math.isfinite(record.loss):
                    raise self._not_finite()
                by_steps = state.step % settings.save_every_n_steps == 0
                if state.step < settings.max_train_steps and (by_steps or (line and saving.rings())):
                    self.save()
                self._watch([watcher for watcher in watchers if watcher.is_due(state.step, line)], record)
            self.save()
        return state.step

    def computing(self) -> AbstractContextManager[None]:
        """Steps are computed as configured until the end."""
        if self.job.recorded:
            return nullcontext()
        return forward_in(self.settings.mixed_precision, self.job.model, self.accelerator.device)

    def advance(self) -> tuple[Tensor, float]:
        """One step; its loss and its learning rate."""
        loss = self._step(self.state.step)
        return loss, self.state.update(self.settings, self.accelerator.clip_grad_norm_)

    def _log(self) -> Log:
        accelerator = self.accelerator
        return Log(
            self.settings.output_dir,
            {**self.job.record, "steps": self.settings.max_train_steps},
            self.state.step,
            self.settings.log_every_n_steps,
            also=lambda numbers, step: accelerator.log(numbers, step=step),
            silent=not accelerator.is_main_process,
        )

    def _step(self, step: int) -> Tensor:
        """Gradients of a step; its loss."""
        if self.job.recorded:
            return self.job.recorded(step)
        accelerator, count = self.accelerator, self.settings.gradient_accumulation_steps
        losses = []
        with self.job.attached():
            for place in range(count):
                number = (step * count + place) * accelerator.num_processes + accelerator.process_index
                with nullcontext() if place == count - 1 else accelerator.no_sync(self.model):
                    loss = self.job.loss(self.model, number)
                    accelerator.backward(loss / count)
                losses.append(loss.detach())
        return torch.stack(losses).mean()

    def _watch(self, due: Sequence[Watcher], record: Log) -> None:
        if not due or not self.accelerator.is_main_process:
            return
        with self.state.averages.shown(), record.paused():
            for watcher in due:
                with autocast(self.settings.mixed_precision, self.accelerator.device):
                    record.note(watcher.look(self.state.step))

    def save(self) -> None:
        """Checkpoint and what was trained, each whole or not at all."""
        state, scaler = self.state, self.accelerator.scaler  # of fp16
        if not state.is_finite():
            raise self._not_finite()
        if not self.accelerator.is_main_process:
            return
        unfinished = self.checkpoint.with_suffix(".part")
        beside = {"config": dict(self.job.fixed), "scaler": scaler.state_dict() if scaler else {}}
        torch.save({**state.state_dict(), **beside}, unfinished)
        unfinished.replace(self.checkpoint)
        with state.averages.shown():
            self.job.save(state.step)

    def _resume(self, resume: bool) -> None:
        folder = self.settings.output_dir
        if not resume:
            if self.checkpoint.exists():
                raise FirstFrameError(
                    f"{folder} holds a training already: go on with --resume, or name another output_dir"
                )
            return
        if not self.checkpoint.exists():
            raise FirstFrameError(f"there is no {self.checkpoint} to go on from; start without --resume")
        saved = torch.load(self.checkpoint, map_location="cpu", weights_only=True, mmap=True)
        ours, theirs = self.job.fixed, saved["config"]
        if changed := sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)):
            raise FirstFrameError(f"{self.checkpoint} is of another configuration: {', '.join(changed)} changed")
        self.state.load_state_dict(saved)
        if self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(saved["scaler"])

    def _not_finite(self) -> FirstFrameError:
        exists = self.checkpoint.exists()
        good = f"the last good checkpoint is {self.checkpoint}" if exists else "no checkpoint was saved before"
        return FirstFrameError(
            f"the loss or the weights are not finite numbers at step {self.state.step}; {good}. Lower learning_rate, "
            'or set mixed_precision to "bf16" or "no", and go on with --resume'
        )
