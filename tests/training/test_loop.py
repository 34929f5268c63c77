"""The training loop learns, averages, logs, and goes on where it was cut off."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from firstframe.training import precision
from firstframe.training.config import TrainTable
from firstframe.training.log import Log, history
from firstframe.training.precision import FullPrecisionAttention, forward_in_bf16
from firstframe.training.recompute import recomputed
from firstframe.training.stage import Loss, stage_job, train_stage

CPU = torch.device("cpu")
SETTINGS = {
    "max_train_steps": 120,
    "learning_rate": 0.05,
    "lr_scheduler": "cosine",
    "lr_warmup_steps": 5,
    "ema_decay": 0.9,
    "save_every_n_steps": 1000,
    "checkpoint_every_n_minutes": 0,
    "log_every_n_steps": 10,
}


def batches(step: int) -> Tensor:
    return torch.randn(16, 3, generator=torch.Generator().manual_seed(step))


def loss(model: nn.Module, x: Tensor) -> Tensor:
    """Of a sum, with a little noise that is drawn anew in each step."""
    return (model(x + 0.01 * torch.randn_like(x)) - x.sum(1, keepdim=True)).square().mean()


def new_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(3, 1)


def train(model: nn.Module, batches: Callable[[int], Tensor], compute: Loss, folder: Path, **changes: Any) -> nn.Module:
    """A stage with the settings above."""
    settings = TrainTable.model_validate({**SETTINGS, "output_dir": folder, **changes})
    train_stage(stage_job(model, batches, compute, settings, CPU), settings, CPU)
    return model


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_learns_and_logs(tmp_path: Path) -> None:
    model = train(new_model(), batches, loss, tmp_path)
    assert loss(model, batches(1000)) < 0.01
    assert [line["step"] for line in lines(tmp_path)] == list(range(10, 121, 10))
    assert lines(tmp_path)[-1]["loss"] < lines(tmp_path)[0]["loss"] / 10
    assert history(tmp_path)["steps"] == 120 and history(tmp_path)["precision"] == "no"


class Interrupted(Exception):
    pass


def test_a_run_that_was_cut_off_ends_as_one_that_was_not(tmp_path: Path) -> None:
    seen = list[int]()

    def interrupted(step: int) -> Tensor:
        seen.append(step)
        if len(seen) == 46:
            raise Interrupted
        return batches(step)

    whole = train(new_model(), batches, loss, tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(new_model(), interrupted, loss, tmp_path / "cut")
    torch.manual_seed(1)  # neither the weights nor the draws of the second call depend on what came before it
    cut = train(nn.Linear(3, 1), interrupted, loss, tmp_path / "cut")
    assert seen[46:] == list(range(40, 120))  # the checkpoint was at step 40
    assert torch.equal(whole.weight, cut.weight) and torch.equal(whole.bias, cut.bias)
    kept = [[{**line, "seconds_per_step": 0} for line in lines(tmp_path / name)] for name in ("whole", "cut")]
    assert kept[0] == kept[1]


def test_checkpoints_are_written_by_time_and_at_the_end(tmp_path: Path) -> None:
    def checked(step: int) -> Tensor:
        assert not (tmp_path / "checkpoint.pt").exists()
        return batches(step)

    train(new_model(), checked, loss, tmp_path, checkpoint_every_n_minutes=60)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 120


def test_lines_after_the_checkpoint_are_taken_out(tmp_path: Path) -> None:
    for step in (0, 20):
        with Log(tmp_path, {"steps": 40}, step, every=10) as log:
            for _ in range(40 - step):
                log.add(torch.tensor(float(step)), 0.1)
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == [(10, 0.0), (20, 0.0), (30, 20.0), (40, 20.0)]


def test_the_forward_pass_is_in_bf16_and_nothing_else() -> None:
    model, x = new_model(), batches(0)
    with forward_in_bf16(model, CPU):
        assert model(x).dtype == torch.bfloat16 and (x @ x.T).dtype == torch.float32
    assert model(x).dtype == torch.float32


@pytest.mark.parametrize(("name", "expected"), [("bf16", torch.bfloat16), ("no", torch.float32)])
def test_training_is_in_the_precision_that_it_says(tmp_path: Path, name: str, expected: torch.dtype) -> None:
    seen = set()

    def noted(model: nn.Module, x: Tensor) -> Tensor:
        seen.add(model(x).dtype)
        return loss(model, x)

    train(new_model(), batches, noted, tmp_path, max_train_steps=2, mixed_precision=name)
    assert seen == {expected}


@pytest.mark.filterwarnings("ignore:.*CUDA is not available")
@pytest.mark.parametrize(("device", "in_full"), [("cpu", True), ("cuda", False)])
def test_attention_is_in_full_precision_on_cpus_alone(
    monkeypatch: pytest.MonkeyPatch, device: str, in_full: bool
) -> None:
    entered = list[bool]()

    class Noted(FullPrecisionAttention):
        def __enter__(self) -> Noted:
            entered.append(True)
            return super().__enter__()

    monkeypatch.setattr(precision, "FullPrecisionAttention", Noted)
    with forward_in_bf16(new_model(), torch.device(device)):
        assert bool(entered) == in_full


class Attention(nn.Module):
    def forward(self, query: Tensor) -> Tensor:
        cast = query.bfloat16()
        return nn.functional.scaled_dot_product_attention(cast, cast, cast)


def test_activations_are_recomputed_in_the_same_precision() -> None:
    attention, query = Attention(), torch.randn(1, 2, 8, 4, requires_grad=True)
    gradients = []
    for modules in ([], [attention]):
        query.grad = None
        with FullPrecisionAttention(), torch.autocast("cpu", torch.bfloat16), recomputed(modules):
            attention(query).float().square().sum().backward()
        gradients.append(query.grad)
    assert gradients[0] is not None and torch.equal(*gradients)
    assert FullPrecisionAttention.entered == 0


def test_full_precision_attention() -> None:
    query = torch.randn(1, 2, 8, 4, dtype=torch.bfloat16)
    expected = nn.functional.scaled_dot_product_attention(query.float(), query.float(), query.float())
    with FullPrecisionAttention(), torch.autocast("cpu", torch.bfloat16):
        result = nn.functional.scaled_dot_product_attention(query, query, query)
    assert result.dtype == torch.bfloat16
    assert torch.equal(result, expected.bfloat16())
