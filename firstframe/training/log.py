"""The log of a run: losses over steps, its configuration, and a progress bar."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import torch
from torch import Tensor
from tqdm.auto import tqdm


def history(folder: Path) -> dict[str, Any]:
    """What a finished run did: its name, its configuration, and the mean loss of its last 200 steps."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    lines = _lines(folder / "log.jsonl")
    last = [line["loss"] for line in lines if "loss" in line and line["step"] > config["steps"] - 200]
    return {"stage": folder.name, **config, "last_loss": round(sum(last) / len(last), 4)}


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []


Also = Callable[[dict[str, float], int], None]
"""Told the numbers of a line, and the step that it belongs to."""


class Log:
    """Progress bar and ``log.jsonl``: one line per ``every`` steps with their mean loss.

    Args:
        folder: where ``log.jsonl`` and ``config.json`` are; made where it is not there.
        config: of the run, as JSON; its ``steps`` is how long it is.
        step: where the run goes on; lines of later steps, which a run that was cut off left behind, are taken out.
        every: steps to a line.
        also: told of every line.
        silent: neither write nor show anything: for all processes of a run but one.
    """

    def __init__(
        self,
        folder: Path,
        config: dict[str, Any],
        step: int,
        every: int,
        also: Also | None = None,
        silent: bool = False,
    ) -> None:
        self.file: IO[str] | None = None
        if not silent:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "config.json").write_text(json.dumps(config, indent=1), "utf-8")
            kept = [line for line in _lines(folder / "log.jsonl") if line["step"] <= step]
            self.file = (folder / "log.jsonl").open("w", encoding="utf-8")
            self.file.writelines(json.dumps(line) + "\n" for line in kept)
        self.bar = tqdm(total=config["steps"], initial=step, desc=folder.name, mininterval=5, disable=silent)
        self.also = also
        self.step, self.every, self.losses, self.since = step, every, list[Tensor](), time.monotonic()
        self.loss = 0.0

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.file:
            self.file.close()
        self.bar.close()

    def add(self, loss: Tensor, learning_rate: float) -> bool:
        """Count a step; True where it completed a line. A loss is read once per line, so that a GPU seldom waits."""
        self.step += 1
        self.losses.append(loss)
        self.bar.update()
        if self.step % self.every:
            return False
        self.loss, now = torch.stack(self.losses).mean().item(), time.monotonic()
        memory = round(memory_used(loss.device), 2)
        self.note(
            {
                "loss": round(self.loss, 5),
                "learning_rate": learning_rate,
                "seconds_per_step": round((now - self.since) / len(self.losses), 3),
                "memory_gb": memory,
            }
        )
        self.bar.set_postfix(loss=f"{self.loss:.4f}", memory=f"{memory:.1f} GB")
        self.losses.clear()
        self.since = time.monotonic()
        return True

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens until the end is no part of a step's time."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.since += time.monotonic() - began

    def note(self, numbers: dict[str, float]) -> None:
        """Write a line about the steps done."""
        if self.file:
            self.file.write(json.dumps({"step": self.step, **numbers}) + "\n")
            self.file.flush()
        if self.also:
            self.also(numbers, self.step)


def memory_used(device: torch.device) -> float:
    """The most memory that this process used so far, on a GPU or else of the machine, in GB (10^9 bytes)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
