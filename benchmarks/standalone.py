"""Seconds and memory of a clip without ComfyUI, with weights of full size: random numbers in the published layouts.

    python benchmarks/standalone.py --folder FOLDER [--size 512] [--frames 16] [--steps 4] [--device cuda]

Files that are not in the folder are written there first (5 GB). Prints seconds for each step, and on CUDA the most
memory that was allocated, each with all networks on the card and with offloading.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from firstframe import Animation, ModelFiles, animate_image, load_model
from firstframe.weights.hub.manifest import weight_set

SYNTHETIC = Path(__file__).parents[1] / "tests" / "synthetic.py"


def file(id: str, folder: Path) -> Path:
    """The published file ``id`` of random numbers."""
    path = folder / weight_set(id).file
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, str(SYNTHETIC), id, "--to", str(folder)], check=True)
    return path


def main(
    folder: Annotated[Path, typer.Option(help="Where the files are, or are written.")],
    size: int = 512,
    frames: int = 16,
    steps: int = 4,
    device: str = "cuda",
) -> None:
    """Animate a grey image with Stable Diffusion 1.5, motion module v2 and the I2V adapter."""
    files = ModelFiles(*(file(id, folder) for id in ("sd15-fp16", "animatediff-v2", "i2v-adapter")))
    animation = Animation(("",), frames=frames, steps=steps, width=size, height=size)
    image = torch.full((1, 3, size, size), 0.5)
    for offload in (False, True):
        model = load_model(files, device, offload=offload)
        times: list[float] = []
        animate_image(model, image, animation, lambda _, times=times: Stopwatch(times))
        peak = f"{torch.cuda.max_memory_allocated() / 2**30:.2f} GiB" if device.startswith("cuda") else "not counted"
        seconds = (times[-1] - times[0]) / (len(times) - 1)
        print(f"offload {offload}: {seconds:.3f} s a step, most memory {peak}", flush=True)
        del model
        if device.startswith("cuda"):
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


class Stopwatch:
    """Notes when each step ends."""

    def __init__(self, times: list[float]) -> None:
        self.times = times

    def __enter__(self) -> Stopwatch:
        return self

    def __call__(self, done: int, total: int, latents: torch.Tensor) -> None:
        if latents.is_cuda:
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())

    def __exit__(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    typer.run(main)
