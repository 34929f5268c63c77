"""What changes from step to step: weights, their optimiser, and their averages."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import FirstFrameError
from .config import TrainTable


def new_optimiser(weights: Iterable[Tensor], settings: TrainTable) -> torch.optim.Optimizer:
    """AdamW as in the papers, or with states of eight bits.

    Raises:
        FirstFrameError: bitsandbytes is needed and not installed.
    """
    betas = (0.9, settings.adam_beta2)
    arguments: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay, "betas": betas}
    if settings.optimizer_type == "adamw":
        return torch.optim.AdamW(weights, fused=True, **arguments)
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise FirstFrameError(
            'optimizer_type "adamw8bit" needs bitsandbytes: pip install bitsandbytes, or use "adamw"'
        ) from error
    optimiser: torch.optim.Optimizer = AdamW8bit(weights, **arguments)
    return optimiser


def rate_at(step: int, settings: TrainTable) -> float:
    """The learning rate of a step, from 0: warmed up linearly, then constant or falling to zero along a cosine."""
    warmup, steps = settings.lr_warmup_steps, settings.max_train_steps
    rate = settings.learning_rate * min(1.0, (step + 1) / max(1, warmup))
    if settings.lr_scheduler == "constant" or step < warmup:
        return rate
    return 0.5 * rate * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


class Averages:
    """Exponential averages of some weights, warmed up so that early weights fade."""

    def __init__(self, weights: Iterable[Tensor], decay: float) -> None:
        self.weights, self.decay = list(weights), decay
        self.averages = [weight.detach().clone() for weight in self.weights] if decay else []

    def update(self, step: int) -> None:
        """After the step of this number, from 0."""
        if self.decay:
            decay = min(self.decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(self.averages, [weight.detach() for weight in self.weights], 1 - decay)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Until the end, the averages are in the weights' place."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    def swap(self) -> None:
        """Exchange weights and averages; a second call undoes it."""
        for weight, average in zip(self.weights, self.averages, strict=False):
            kept = weight.detach().clone()
            weight.data.copy_(average)
            average.copy_(kept)


class TrainingState:
    """Everything that a run needs to go on exactly where it was."""

    def __init__(self, weights: Mapping[str, nn.Parameter], optimiser: Any, decay: float) -> None:
        """``weights`` are trained by ``optimiser``; averages decay by ``decay``, 0 for none."""
        self.step = 0
        self.weights, self.optimiser = weights, optimiser
        self.averages = Averages(weights.values(), decay)

    def update(self, settings: TrainTable, clip: Callable[[list[nn.Parameter], float], Any]) -> float:
        """One step of the optimiser with the gradients that are there; the learning rate that it had."""
        rate = rate_at(self.step, settings)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        if settings.max_grad_norm:
            clip(list(self.weights.values()), settings.max_grad_norm)
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.averages.update(self.step)
        self.step += 1
        return rate

    def is_finite(self) -> bool:
        """Whether no weight is NaN or infinite. Waits for the device."""
        finite = [weight.detach().isfinite().all() for weight in self.weights.values()]
        return bool(torch.stack(finite).all())

    def state_dict(self) -> dict[str, Any]:
        weights = {name: weight.detach() for name, weight in self.weights.items()}
        state = {"step": self.step, "weights": weights, "optimiser": self.optimiser.state_dict()}
        return {**state, "averages": self.averages.averages}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(state["weights"][name])
            for average, saved in zip(self.averages.averages, state["averages"], strict=True):
                average.copy_(saved)
        self.optimiser.load_state_dict(state["optimiser"])
