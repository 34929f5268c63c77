"""The training loop that every stage shares: accelerate, AdamW, cosine rate, EMA, resume, progress and log."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from tqdm.auto import tqdm

Loss = Callable[[Any, Any], Tensor]
M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast.

    Attributes:
        steps: optimiser steps in all; the learning rate falls along a cosine to zero at the last one.
        learning_rate: at its peak, after ``warmup`` steps.
        ema_decay: of the averaged weights that are saved; warmed up from 0, so that early weights fade.
        batch_size: of the batches, for the record.
        precision: "bf16" or "no", of the forward pass; weights and averages stay fp32.
        save_every: steps between two checkpoints.
    """

    steps: int
    learning_rate: float
    batch_size: int
    warmup: int = 50
    ema_decay: float = 0.998
    weight_decay: float = 1e-2
    precision: str = "bf16"
    save_every: int = 100
    log_every: int = 20
    seed: int = 0


def train(model: M, batches: Iterator[Any], loss: Loss, config: LoopConfig, folder: Path) -> M:
    """Train the parameters of ``model`` that require gradients; returns it with the averaged weights in place.

    A run that was cut off goes on from its last checkpoint in ``folder`` when called again.

    Args:
        model: the module to train, handed to ``loss`` with a batch.
        batches: endless iterator of batches (CPU tensors or anything ``loss`` understands).
        loss: ``loss(model, batch)`` -> scalar.
        config: see :class:`LoopConfig`.
        folder: gets ``checkpoint/`` and ``log.jsonl``.
    """
    set_seed(config.seed)
    accelerator = Accelerator(mixed_precision=config.precision)
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        weights, lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.99), fused=True
    )
    schedule = get_cosine_schedule_with_warmup(optimizer, config.warmup, config.steps)
    ema = EMAModel(weights, decay=config.ema_decay, use_ema_warmup=True, power=0.75)
    ema.to(accelerator.device)
    prepared, optimizer, schedule = accelerator.prepare(model, optimizer, schedule)
    progress = _Progress()
    accelerator.register_for_checkpointing(ema, progress)
    checkpoint = folder / "checkpoint"
    if checkpoint.is_dir():
        accelerator.load_state(str(checkpoint))
    with FullPrecisionAttention(), _Log(folder, config, progress) as log:
        while progress.step < config.steps:
            value = loss(prepared, next(batches))
            accelerator.backward(value)
            accelerator.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            ema.step(weights)
            progress.step += 1
            log.add(value.detach(), schedule.get_last_lr()[0])
            if progress.step % config.save_every == 0 or progress.step == config.steps:
                accelerator.save_state(str(checkpoint))
    ema.copy_to(weights)
    return model


def history(folder: Path) -> dict[str, Any]:
    """What a finished run did: its name, its configuration, and the mean loss of its last 200 steps."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines()]
    last = [line["loss"] for line in lines if line["step"] > config["steps"] - 200]
    return {"stage": folder.name, **config, "last_loss": round(sum(last) / len(last), 4)}


class _Progress:
    """The step count, as a thing that accelerate can save."""

    step = 0

    def state_dict(self) -> dict[str, int]:
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.step = state["step"]


class _Log:
    """Progress bar and ``log.jsonl``: one line per ``log_every`` steps with their mean loss."""

    def __init__(self, folder: Path, config: LoopConfig, progress: _Progress) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(asdict(config), indent=1))
        self.file = (folder / "log.jsonl").open("a", encoding="utf-8")
        self.bar = tqdm(total=config.steps, initial=progress.step, desc=folder.name, mininterval=5)
        self.config, self.progress, self.losses, self.since = config, progress, list[Tensor](), time.monotonic()

    def __enter__(self) -> _Log:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.bar.close()

    def add(self, loss: Tensor, learning_rate: float) -> None:
        self.losses.append(loss)
        self.bar.update()
        if len(self.losses) < self.config.log_every:
            return
        mean, now = torch.stack(self.losses).mean().item(), time.monotonic()
        entry = {
            "step": self.progress.step,
            "loss": round(mean, 5),
            "learning_rate": learning_rate,
            "seconds_per_step": round((now - self.since) / len(self.losses), 3),
        }
        self.file.write(json.dumps(entry) + "\n")
        self.file.flush()
        self.bar.set_postfix(loss=f"{mean:.4f}")
        self.losses.clear()
        self.since = now


class FullPrecisionAttention(TorchFunctionMode):
    """Attention in fp32 under a bf16 autocast: its gradient in bf16 is slow on CPUs."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function is not functional.scaled_dot_product_attention:
            return function(*args, **(kwargs or {}))
        query, key, value = args[:3]
        with torch.autocast(query.device.type, enabled=False):
            result = function(query.float(), key.float(), value.float(), *args[3:], **(kwargs or {}))
        return result.to(query.dtype)
