"""One sampling of a clip by ComfyUI, as the benchmarks that run inside it do it. Importing this imports the host."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import comfy.sample
from torch import Tensor


def sample_clip(
    model: Any, prompts: Iterable[Any], start: Tensor, steps: int, cfg: float, callback: Callable[..., None] | None
) -> Tensor:
    """Latents (F, C, H, W) by euler from ``start``; ``prompts`` are positive and negative."""
    noise, settings = comfy.sample.prepare_noise(start, 0), (steps, cfg, "euler", "ddim_uniform")
    return comfy.sample.sample(model, noise, *settings, *prompts, start, callback=callback, disable_pbar=True, seed=0)
