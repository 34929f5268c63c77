"""What a step of training takes at full size: seconds and peak memory, with and without gradient checkpointing.

    python benchmarks/training.py --out benchmarks/results          # on a GPU
    python benchmarks/training.py --base sdxl --out benchmarks/results
    python benchmarks/training.py --sizes 64 --frames 8 --precision no  # on a CPU, with about 20 GB

Stable Diffusion 1.5 or SDXL and a motion module without middle, with random weights, one clip in a batch, AdamW. Each
row has a process of its own; the second of two steps is timed. On a GPU, memory is PyTorch's peak allocation, on a CPU
the process's; both with the states of the optimiser added. Writes training.json and training.md, or training_sdxl.*.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from common import arguments, save

READING = "one clip in a batch; memory with the states of AdamW; GB are 10^9 bytes."
TARGETS = {"adapter": False, "retention": False, "retention + temporal": True, "content": False}
HEADS = 8
VIT_H = (1, 257, 1280)


def measured(base: str, target: str, side: int, frames: int, checkpointing: bool, precision: str) -> dict[str, Any]:
    """One row, in this process."""
    from firstframe.bindings.diffusers import animatediff_scheduler
    from firstframe.bindings.diffusers.checkpoint import build_unet, empty_unet
    from firstframe.clips.reference import ImageFeatures
    from firstframe.modules.motion import MotionConfig, MotionModule
    from firstframe.modules.retention import STEM_CHANNELS
    from firstframe.sites import SD15, SDXL
    from firstframe.training.base import VideoBase
    from firstframe.training.clips.buckets import Size
    from firstframe.training.clips.find import Source
    from firstframe.training.clips.plan import Plan, Sample
    from firstframe.training.config import TrainingConfig
    from firstframe.training.run import TYPES, Training

    sizes, dtype = {"sd15": SD15, "sdxl": SDXL}[base], TYPES[precision]
    shapes = empty_unet(sizes).state_dict()
    unet = build_unet(sizes, {name: 0.02 * torch.randn(shape.shape, dtype=dtype) for name, shape in shapes.items()})
    motion = MotionModule(MotionConfig(sizes.block_out_channels, sizes.layers_per_block, False, 32, HEADS))
    seen = SimpleNamespace(encoder=None, see=lambda image: ImageFeatures(torch.zeros(VIT_H), torch.zeros(VIT_H)))
    frozen = VideoBase(unet, motion, None, animatediff_scheduler(), 1.0, STEM_CHANNELS, seen)  # type: ignore[arg-type]
    train = {
        "output_dir": "unused",
        "temporal": TARGETS[target],
        "gradient_checkpointing": checkpointing,
        "mixed_precision": precision,
    }
    content = {"model": {"checkpoint": "tiny"}, "datasets": [{"video_directory": "unused"}], "train": train}
    config = TrainingConfig.model_validate(content)
    sample = Sample(Source(Path("unused"), "", ""), "", tuple(range(frames)), Size(side, side))
    kind: Any = target.split()[0]
    training = Training.of(kind, config, frozen, Plan((sample,), (), (), ()), cpu=not torch.cuda.is_available())
    found = training.estimate()
    return {
        "target": target,
        "side": side,
        "frames": frames,
        "checkpointing": checkpointing,
        "trained_millions": round(found.trained / 1e6, 1),
        "seconds_per_step": round(found.seconds, 3),
        "memory_gb": round(found.memory_gb, 2),
    }


def table(rows: list[dict[str, Any]], device: str, precision: str) -> str:
    """Markdown."""
    lines = [
        f"Measured on {device}, {precision}; made by `python benchmarks/training.py`.",
        "",
        "| target | pixels | frames | checkpointing | trained weights (million) | s per step | peak memory (GB) |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        flag = "yes" if row["checkpointing"] else "no"
        cells = (row["target"], f"{row['side']}²", row["frames"], flag, row["trained_millions"])
        lines.append(f"| {' | '.join(map(str, cells))} | {row['seconds_per_step']} | {row['memory_gb']} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--base", default="sd15", choices=["sd15", "sdxl"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512], help="sides in pixels")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--precision", default="bf16", choices=["no", "fp16", "bf16"])
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=list(TARGETS))
    parser.add_argument("--row", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.row:
        print(json.dumps(measured(**json.loads(given.row))))
        return
    rows = []
    for target, side, checkpointing in product(given.targets, given.sizes, (False, True)):
        row = {
            "base": given.base,
            "target": target,
            "side": side,
            "frames": given.frames,
            "checkpointing": checkpointing,
        }
        command = [sys.executable, __file__, "--row", json.dumps({**row, "precision": given.precision})]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            print(f"{row}: did not run (memory?)", file=sys.stderr)
            continue
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(rows[-1])
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "a CPU"
    report = {"device": device, "base": given.base, "precision": given.precision, "rows": rows}
    name = "training" if given.base == "sd15" else f"training_{given.base}"
    save(given.out, name, report, table(rows, device, given.precision), READING)


if __name__ == "__main__":
    main()
