"""The log of a run: losses over steps, its configuration, and a progress bar."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm


def history(folder: Path) -> dict[str, Any]:
    """What a finished run did: its name, its configuration, and the mean loss of its last 200 steps."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    last = [line["loss"] for line in _lines(folder / "log.jsonl") if line["step"] > config["steps"] - 200]
    return {"stage": folder.name, **config, "last_loss": round(sum(last) / len(last), 4)}


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []


class Log:
    """Progress bar and ``log.jsonl``: one line per ``every`` steps with their mean loss.

    Args:
        folder: where ``log.jsonl`` and ``config.json`` are; made where it is not there.
        config: of the run, as JSON.
        step: where the run goes on; lines of later steps, which a run that was cut off left behind, are taken out.
        every: steps to a line.
    """

    def __init__(self, folder: Path, config: dict[str, Any], step: int, every: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config, indent=1), "utf-8")
        kept = [line for line in _lines(folder / "log.jsonl") if line["step"] <= step]
        self.file = (folder / "log.jsonl").open("w", encoding="utf-8")
        self.file.writelines(json.dumps(line) + "\n" for line in kept)
        self.bar = tqdm(total=config["steps"], initial=step, desc=folder.name, mininterval=5)
        self.step, self.every, self.losses, self.since = step, every, list[Tensor](), time.monotonic()

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()
        self.bar.close()

    def add(self, loss: Tensor, learning_rate: float) -> bool:
        """Count a step; True where it completed a line. A loss is read once per line, so that a GPU seldom waits."""
        self.step += 1
        self.losses.append(loss)
        self.bar.update()
        if self.step % self.every:
            return False
        mean, now = torch.stack(self.losses).mean().item(), time.monotonic()
        entry = {
            "step": self.step,
            "loss": round(mean, 5),
            "learning_rate": learning_rate,
            "seconds_per_step": round((now - self.since) / len(self.losses), 3),
        }
        self.file.write(json.dumps(entry) + "\n")
        self.file.flush()
        self.bar.set_postfix(loss=f"{mean:.4f}")
        self.losses.clear()
        self.since = now
        return True
