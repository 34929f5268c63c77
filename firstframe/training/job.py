"""What the loop trains for users: a target, on clips that are cached."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..modules.text import Text
from .clips.batches import Batches
from .config import TrainingConfig
from .data import DRAWS, seed_of
from .loop import Job
from .objective import Objective
from .target import Target

MAY_CHANGE = {
    *("max_train_steps", "save_every_n_steps", "checkpoint_every_n_minutes", "log_every_n_steps"),
    *("log_with", "output_name"),
}


def clip_job(
    target: Target, batches: Batches, empty: Text, objective: Objective, config: TrainingConfig, device: torch.device
) -> Job:
    """Train a target as configured; ``empty`` is the empty caption (B = 1)."""
    settings = config.train

    def loss(model: Any, number: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed_of(DRAWS, settings.seed, number))
        return target.loss(model, batches(number).to(device), empty, objective, generator)

    def save(step: int) -> None:
        told = {**config.model_dump(mode="json"), "kind": target.kind, "steps": step}
        file = settings.output_dir / f"{settings.output_name or target.kind}.safetensors"
        target.save(file, {"firstframe.training": json.dumps(told)})

    return Job(
        target.denoiser,
        target.weights,
        loss,
        config.model_dump(mode="json"),
        _fixed(config),
        partial(target.denoiser.attached, settings.gradient_checkpointing),
        save,
    )


def _fixed(config: TrainingConfig) -> dict[str, str]:
    """By table and key, short."""
    told = config.model_dump(mode="json", include={"model", "data", "datasets", "train"})
    told["train"] = {key: value for key, value in told["train"].items() if key not in MAY_CHANGE}
    flat = {"datasets": told.pop("datasets")}
    flat |= {f"{table}.{key}": value for table, keys in told.items() for key, value in keys.items()}
    return {key: hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16] for key, value in flat.items()}
