"""A training that is killed at random moments ends as one that was not. FIRSTFRAME_KILLS=50 kills it more often."""

from __future__ import annotations

import multiprocessing
import os
import random
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from firstframe.training.loop import LoopConfig, train

KILLS = int(os.environ.get("FIRSTFRAME_KILLS", "4"))
CONFIG = LoopConfig(200 * KILLS, 0.05, 16, warmup=5, ema_decay=0.9, precision="no", save_every=0, log_every=2)
RESULT = "result.pt"

pytestmark = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="processes are spawned")


def batches(step: int) -> Tensor:
    return torch.randn(16, 3, generator=torch.Generator().manual_seed(step))


def loss(model: nn.Module, x: Tensor) -> Tensor:
    return (model(x + 0.01 * torch.randn_like(x)) - x.sum(1, keepdim=True)).square().mean()


def training(folder: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = train(nn.Linear(3, 1), batches, loss, CONFIG, folder, torch.device("cpu"))
    torch.save(model.state_dict(), folder / RESULT)


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
    dice, killed = random.Random(KILLS), 0
    for folder in ("whole", "killed"):
        (tmp_path / folder).mkdir()
    assert run(tmp_path / "whole", None)
    while killed < KILLS:
        assert not run(tmp_path / "killed", dice.uniform(0.02, 0.4)) or killed >= KILLS // 2, "it was done before"
        killed += 1
    assert run(tmp_path / "killed", None)
    whole, cut = (torch.load(tmp_path / folder / RESULT, weights_only=True) for folder in ("whole", "killed"))
    assert whole.keys() == cut.keys() and all(torch.equal(whole[name], cut[name]) for name in whole)
    assert not list((tmp_path / "killed").glob("*.part*"))
