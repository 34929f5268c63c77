"""The training loop learns, averages, logs, and goes on where it was cut off."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from firstframe.training.loop import FullPrecisionAttention, LoopConfig, history, train


def batches(seed: int = 0) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield torch.randn(16, 3, generator=generator)


def loss(model: nn.Module, x: Tensor) -> Tensor:
    return (model(x) - x.sum(1, keepdim=True)).square().mean()


def config(steps: int) -> LoopConfig:
    return LoopConfig(steps, 0.05, 16, warmup=5, ema_decay=0.9, precision="no", save_every=20, log_every=10)


def test_learns_and_logs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = train(nn.Linear(3, 1), batches(), loss, config(120), tmp_path)
    assert loss(model, next(batches(1))) < 0.01
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(10, 121, 10))
    assert lines[-1]["loss"] < lines[0]["loss"] / 10
    assert history(tmp_path)["steps"] == 120


def test_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    class Interrupted(Exception):
        pass

    def breaking(seen: list[int]) -> Iterator[Tensor]:
        for batch in batches():
            seen.append(1)
            if len(seen) > 45:
                raise Interrupted
            yield batch

    torch.manual_seed(0)
    try:
        train(nn.Linear(3, 1), breaking([]), loss, config(60), tmp_path)
    except Interrupted:
        pass
    else:
        raise AssertionError("the run was not cut off")
    seen = list[int]()
    model = train(nn.Linear(3, 1), breaking(seen), loss, config(60), tmp_path)
    assert len(seen) == 20  # the checkpoint was at step 40
    assert loss(model, next(batches(1))) < 0.1


def test_attention_runs_in_full_precision() -> None:
    query = torch.randn(1, 2, 8, 4, dtype=torch.bfloat16)
    expected = nn.functional.scaled_dot_product_attention(query.float(), query.float(), query.float())
    with FullPrecisionAttention(), torch.autocast("cpu", torch.bfloat16):
        result = nn.functional.scaled_dot_product_attention(query, query, query)
    assert result.dtype == torch.bfloat16
    assert torch.equal(result, expected.bfloat16())
