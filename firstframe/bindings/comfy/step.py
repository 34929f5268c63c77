"""Where a sampling is. Its noise level lies on the device, and reading it makes the CPU wait: once per step at most."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from comfy.model_sampling import ModelSamplingDiscrete
from comfy.patcher_extension import WrappersMP
from torch import Tensor

STEP_KEY = "firstframe_step"
LAST_TIMESTEP = 999
BISECTIONS = 32


@dataclass(frozen=True)
class NoiseLevel:
    """Attributes:
    sigma: as the sampler has it.
    percent: how far the noise schedule has run, from 0 (all noise) to 1 (none), as the host's percents count.
    """

    sigma: float
    percent: float


class Step:
    """One step of the sampler, as all parts of a model share it."""

    def __init__(self) -> None:
        self._level: NoiseLevel | None = None

    def level(self, model_sampling: Any, sigma: Tensor) -> NoiseLevel:
        """The noise level; read from ``sigma`` (B,) by whoever asks first."""
        if self._level is None:
            self._level = noise_level(model_sampling, sigma)
        return self._level


def noise_level(model_sampling: Any, sigma: Tensor) -> NoiseLevel:
    """The noise level of ``sigma`` (B,), all of whose elements are equal."""
    first = sigma[:1].float()
    if isinstance(model_sampling, ModelSamplingDiscrete):
        value, timestep = torch.cat([first, model_sampling.timestep(first).float()]).cpu().tolist()
        return NoiseLevel(value, 1.0 - timestep / LAST_TIMESTEP)
    value = first.item()
    return NoiseLevel(value, _where_it_falls_to(value, model_sampling.percent_to_sigma))


def _where_it_falls_to(value: float, falling: Callable[[float], float]) -> float:
    """Where in [0, 1] a falling function reaches a value: flow models count their timesteps each in its own way."""
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > value else (low, middle)
    return low


def step_of(options: dict[str, Any]) -> Step:
    """The step that transformer options belong to; one of its own where nobody shares one."""
    step: Step | None = options.get(STEP_KEY)
    return Step() if step is None else step


def share_steps(model: ModelPatcher) -> None:
    """Let the parts of ``model`` share what is read in a step. Twice is once."""
    if not model.get_wrappers(WrappersMP.PREDICT_NOISE, STEP_KEY):
        model.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, STEP_KEY, _predict)


def _predict(
    executor: Any, x: Tensor, timestep: Tensor, model_options: dict[str, Any], *args: Any, **kwargs: Any
) -> Tensor:
    told = {**model_options.get("transformer_options", {}), STEP_KEY: Step()}
    denoised: Tensor = executor(x, timestep, {**model_options, "transformer_options": told}, *args, **kwargs)
    return denoised
