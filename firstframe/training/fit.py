"""The loop of a training on one or several devices, by accelerate."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from ..errors import FirstFrameError
from ..text import Text
from .clips.batches import Batches
from .config import TrainingConfig
from .data import DRAWS, seed_of
from .log import Log
from .objective import Objective
from .optimiser import TrainingState, new_optimiser
from .precision import FullPrecisionAttention
from .stop import on_interrupt
from .target import Target

MAY_CHANGE = {"max_train_steps", "save_every_n_steps", "log_every_n_steps", "log_with", "output_name"}


@dataclass(frozen=True)
class Watcher:
    """Something that looks at the model every so many steps, and before the first one.

    Attributes:
        look: from the steps done to numbers for the log.
    """

    every: int
    look: Callable[[int], dict[str, float]]


@dataclass
class Fit:
    """One training.

    Attributes:
        empty: the empty caption (B = 1).
        folder: gets checkpoint.pt, log.jsonl, config.json and the trained files.
    """

    target: Target
    batches: Batches
    empty: Text
    objective: Objective
    config: TrainingConfig
    accelerator: Accelerator

    def __post_init__(self) -> None:
        self.settings = self.config.train
        self.folder = self.settings.output_dir
        self.checkpoint = self.folder / "checkpoint.pt"

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
        accelerator, settings = self.accelerator, self.settings
        weights = self.target.weights
        model, optimiser = accelerator.prepare(self.target.denoiser, new_optimiser(weights.values(), settings))
        state = TrainingState(weights, optimiser, settings.ema_decay)
        self._resume(state, resume)
        log = self.config.model_dump(mode="json") | {"steps": settings.max_train_steps}
        with ExitStack() as stack:
            stop = stack.enter_context(on_interrupt())
            record = stack.enter_context(
                Log(
                    self.folder,
                    log,
                    state.step,
                    settings.log_every_n_steps,
                    also=lambda numbers, step: accelerator.log(numbers, step=step),
                    silent=not accelerator.is_main_process,
                )
            )
            if accelerator.device.type == "cpu" and settings.mixed_precision == "bf16":
                stack.enter_context(FullPrecisionAttention())
            self._watch(watchers, state, record, first=not resume)
            while state.step < settings.max_train_steps and not stop.asked:
                loss = self._step(model, state.step)
                rate = state.update(settings, accelerator.clip_grad_norm_)
                line = record.add(loss, rate)
                if line and not math.isfinite(record.loss):
                    raise self._not_finite(state.step)
                if state.step % settings.save_every_n_steps == 0 and state.step < settings.max_train_steps:
                    self.save(state)
                self._watch(watchers, state, record)
            self.save(state)
        return state.step

    def _step(self, model: Any, step: int) -> Tensor:
        """Gradients of a step; its loss."""
        accelerator, count = self.accelerator, self.settings.gradient_accumulation_steps
        losses = []
        with self.target.denoiser.attached(self.settings.gradient_checkpointing):
            for place in range(count):
                number = (step * count + place) * accelerator.num_processes + accelerator.process_index
                generator = torch.Generator().manual_seed(seed_of(DRAWS, self.settings.seed, number))
                batch = self.batches(number).to(accelerator.device)
                last = place == count - 1
                with nullcontext() if last else accelerator.no_sync(model):
                    loss = self.target.loss(model, batch, self.empty, self.objective, generator)
                    accelerator.backward(loss / count)
                losses.append(loss.detach())
        return torch.stack(losses).mean()

    def _watch(self, watchers: Sequence[Watcher], state: TrainingState, record: Log, first: bool = False) -> None:
        due = [w for w in watchers if (first and state.step == 0) or (state.step and state.step % w.every == 0)]
        if not due or not self.accelerator.is_main_process:
            return
        state.averages.swap()
        with self.accelerator.autocast(), record.paused():
            for watcher in due:
                record.note(watcher.look(state.step))
        state.averages.swap()

    def save(self, state: TrainingState) -> None:
        """Checkpoint and trained file, each whole or not at all."""
        if not state.is_finite():
            raise self._not_finite(state.step)
        if not self.accelerator.is_main_process:
            return
        unfinished = self.checkpoint.with_suffix(".part")
        scaler = self.accelerator.scaler  # of fp16
        beside = {"config": _fingerprint(self.config), "scaler": scaler.state_dict() if scaler else {}}
        torch.save({**state.state_dict(), **beside}, unfinished)
        unfinished.replace(self.checkpoint)
        state.averages.swap()
        told = {**self.config.model_dump(mode="json"), "kind": self.target.kind, "steps": state.step}
        name = self.settings.output_name or self.target.kind
        self.target.save(self.folder / f"{name}.safetensors", {"firstframe.training": json.dumps(told)})
        state.averages.swap()

    def _resume(self, state: TrainingState, resume: bool) -> None:
        if not resume:
            if self.checkpoint.exists():
                raise FirstFrameError(
                    f"{self.folder} holds a training already: go on with --resume, or name another output_dir"
                )
            return
        if not self.checkpoint.exists():
            raise FirstFrameError(f"there is no {self.checkpoint} to go on from; start without --resume")
        saved = torch.load(self.checkpoint, map_location="cpu", weights_only=True, mmap=True)
        ours = _fingerprint(self.config)
        theirs: dict[str, str] = saved["config"]
        if changed := sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)):
            raise FirstFrameError(f"{self.checkpoint} is of another configuration: {', '.join(changed)} changed")
        state.load_state_dict(saved)
        if self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(saved["scaler"])

    def _not_finite(self, step: int) -> FirstFrameError:
        exists = self.checkpoint.exists()
        good = f"the last good checkpoint is {self.checkpoint}" if exists else "no checkpoint was saved before"
        return FirstFrameError(
            f"the loss or the weights are not finite numbers at step {step}; {good}. Lower learning_rate, or set "
            'mixed_precision to "bf16" or "no", and go on with --resume'
        )


def _fingerprint(config: TrainingConfig) -> dict[str, str]:
    """What must not change when a run goes on: by table and key, short."""
    told = config.model_dump(mode="json", include={"model", "data", "datasets", "train"})
    told["train"] = {key: value for key, value in told["train"].items() if key not in MAY_CHANGE}
    flat = {"datasets": told.pop("datasets")}
    flat |= {f"{table}.{key}": value for table, keys in told.items() for key, value in keys.items()}
    return {key: hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16] for key, value in flat.items()}
