"""A training that is killed at random moments ends as one that was not. FIRSTFRAME_KILLS=50 kills it more often.

FIRSTFRAME_SEED=1 chooses other moments.
"""

from __future__ import annotations

import multiprocessing
import os
import random
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from firstframe.training.config import TrainTable
from firstframe.training.stage import stage_job, train_stage

KILLS = int(os.environ.get("FIRSTFRAME_KILLS", "4"))
SEED = int(os.environ.get("FIRSTFRAME_SEED", "0"))
SETTINGS = {
    "max_train_steps": 120,
    "learning_rate": 0.05,
    "lr_scheduler": "cosine",
    "lr_warmup_steps": 5,
    "ema_decay": 0.9,
    "checkpoint_every_n_minutes": 0,
    "log_every_n_steps": 2,
}
RESULT = "result.pt"

pytestmark = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="processes are spawned")


def batches(step: int) -> Tensor:
    return torch.randn(16, 3, generator=torch.Generator().manual_seed(step))


def loss(model: nn.Module, x: Tensor) -> Tensor:
    return (model(x + 0.01 * torch.randn_like(x)) - x.sum(1, keepdim=True)).square().mean()


def training(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    settings = TrainTable.model_validate({**SETTINGS, "output_dir": folder})
    cpu = torch.device("cpu")
    job = stage_job(nn.Linear(3, 1), batches, loss, settings, cpu)
    train_stage(job, settings, cpu)
    torch.save(job.model.state_dict(), folder / RESULT)


def run(folder: Path, seconds: float | None) -> bool:
    """Train in a process of its own, killed after so many seconds; whether it came to the end."""
    process = multiprocessing.get_context("fork").Process(target=training, args=(folder,))
    process.start()
    process.join(seconds)
    process.kill()
    process.join()
    assert process.exitcode in (0, -9), "it stopped by itself"
    return process.exitcode == 0


def test_kills_change_nothing(tmp_path: Path) -> None:
    assert run(tmp_path / "whole", None)
    whole = torch.load(tmp_path / "whole" / RESULT, weights_only=True)
    dice, killed, trained = random.Random(SEED), 0, 0
    while killed < KILLS:
        folder = tmp_path / str(trained)
        while not run(folder, dice.uniform(0.02, 0.4)):
            killed += 1
        cut = torch.load(folder / RESULT, weights_only=True)
        assert whole.keys() == cut.keys() and all(torch.equal(whole[name], cut[name]) for name in whole)
        trained += 1
