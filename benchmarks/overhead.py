"""What motion module, I2V adapter and retention branch cost: seconds per step and peak memory, as ratios to the base.

    python benchmarks/overhead.py --model tiny --model sd15 --repeats 5 --out benchmarks/results

Random weights throughout (speed does not depend on them), classifier-free guidance as in sampling (two
prompts per step). `tiny` is the shipped model's layout at 128 x 128 pixels and 16 frames; `sd15` is Stable
Diffusion 1.5's with an AnimateDiff v2 motion module at 64 x 64 pixels and 8 frames, and needs about 8 GB. The
ways to run are timed in turn and repeatedly in one process; the fastest step of each counts, because
whatever else the machine does only ever adds. Peak memory is taken in a fresh process per way: on the CPU the
highest resident set less what the imported libraries take (Linux only), on CUDA torch's peak.
Writes overhead.json and overhead.md.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from common import arguments, resident_bytes, save
from diffusers import UNet2DConditionModel

from firstframe.bindings.diffusers import Retention, inject, unet_config
from firstframe.modules.i2v_adapter import I2VAdapter
from firstframe.modules.motion import MotionConfig, MotionModule
from firstframe.modules.retention import RetentionBranch, RetentionConfig
from firstframe.tiny.config import MOTION, NUM_FRAMES, SIZE, UNET

CONFIGS = ("base", "+ motion", "+ motion + adapter", "+ motion + adapter + retention")
READING = "time and memory are ratios to the base in the same table; the fastest step of each row counts."
SD15: dict[str, Any] = {
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
SD15_MOTION: dict[str, Any] = {
    "block_out_channels": SD15["block_out_channels"],
    "layers_per_block": 2,
    "mid": True,
    "max_frames": 32,
    "num_heads": 8,
}


@dataclass(frozen=True)
class Layout:
    unet: dict[str, Any]
    motion: dict[str, Any]
    size: int
    num_frames: int


LAYOUTS = {"tiny": Layout(UNET, MOTION, SIZE, NUM_FRAMES), "sd15": Layout(SD15, SD15_MOTION, 64, 8)}


class Bench:
    """One layout's UNet, with the parts that some of the CONFIGS need, and a step in each of these."""

    def __init__(self, layout: Layout, device: str, ways: Sequence[str] = CONFIGS) -> None:
        torch.manual_seed(0)
        self.layout, self.device = layout, device
        self.unet = UNet2DConditionModel(**layout.unet).to(device).eval().requires_grad_(False)
        config, motion = unet_config(self.unet), MotionConfig(**layout.motion)
        if any("motion" in way for way in ways):
            self.motion = MotionModule(motion).to(device).requires_grad_(False)
        if any("adapter" in way for way in ways):
            adapter = I2VAdapter(config.attention_sites, config.num_heads)
            self.adapter = adapter.to(device).requires_grad_(False)
        if any("retention" in way for way in ways):
            branch = RetentionBranch(RetentionConfig(config, replace(motion, mid=False)))
            branch.to(device).requires_grad_(False)
            image = torch.rand(1, 3, layout.size, layout.size, device=device)
            self.retention = Retention(branch, branch.encode(image))
        side, frames = layout.size // 8, layout.num_frames
        self.latents = torch.randn(2 * frames, 4, side, side, device=device)
        text = torch.randn(2, 77, layout.unet["cross_attention_dim"], device=device)
        self.text = text.repeat_interleave(frames, 0)

    @torch.inference_mode()
    def step(self, way: str) -> float:
        """Seconds that one guided step takes."""
        if way == "base":
            return self._timed()
        adapter = self.adapter if "adapter" in way else None
        retention = self.retention if "retention" in way else None
        with inject(self.unet, self.motion, adapter, retention=retention, num_frames=self.layout.num_frames):
            return self._timed()

    def _timed(self) -> float:
        self._synchronise()
        start = time.perf_counter()
        self.unet(self.latents, 501, self.text)
        self._synchronise()
        return time.perf_counter() - start

    def _synchronise(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


def measure_seconds(layout: Layout, repeats: int, device: str) -> dict[str, list[float]]:
    """Seconds per step of every way, taken in turn; one round beforehand warms up."""
    bench = Bench(layout, device)
    rounds = [{way: bench.step(way) for way in CONFIGS} for _ in range(repeats + 1)][1:]
    return {way: [seconds[way] for seconds in rounds] for way in CONFIGS}


def peak_bytes(layout: Layout, way: str, device: str) -> int:
    """Peak memory of this process after two steps; of no use in a process that did something else before."""
    imported = resident_bytes()
    bench = Bench(layout, device, [way])
    for _ in range(2):
        bench.step(way)
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resident_bytes() - imported


def peak_in_new_process(name: str, way: str, device: str) -> int:
    command = [sys.executable, __file__, "--peak-of", name, way, "--device", device]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure(name: str, repeats: int, device: str) -> dict[str, Any]:
    layout = LAYOUTS[name]
    seconds = measure_seconds(layout, repeats, device)
    peaks = {way: peak_in_new_process(name, way, device) for way in CONFIGS}
    ways = {
        way: {
            "seconds_per_step": round(min(seconds[way]), 4),
            "time_ratio": round(min(seconds[way]) / min(seconds["base"]), 3),
            "peak_mib": round(peaks[way] / 2**20),
            "memory_ratio": round(peaks[way] / peaks["base"], 3),
        }
        for way in CONFIGS
    }
    return {"size": layout.size, "num_frames": layout.num_frames, "repeats": repeats, "ways": ways}


def as_table(results: dict[str, Any]) -> str:
    lines = [
        "| model | | seconds per step | time | peak memory (MiB) | memory |",
        "|---|---|---|---|---|---|",
    ]
    for name, result in results.items():
        title = f"{name}, {result['size']} px x {result['num_frames']} frames"
        for way, row in result["ways"].items():
            lines.append(
                f"| {title} | {way} | {row['seconds_per_step']:.3f} | x{row['time_ratio']:.2f} "
                f"| {row['peak_mib']} | x{row['memory_ratio']:.2f} |"
            )
    return "\n".join(lines) + "\n"


def parse() -> argparse.Namespace:
    parser = arguments(__doc__)
    parser.add_argument("--model", action="append", choices=LAYOUTS, help="may be given twice; default: both")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--peak-of", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = parse()
    if options.peak_of:
        name, way = options.peak_of
        print(peak_bytes(LAYOUTS[name], way, options.device))
        return
    results = {name: measure(name, options.repeats, options.device) for name in options.model or LAYOUTS}
    about = {"device": options.device, "threads": torch.get_num_threads(), "machine": platform.machine()}
    report = {"torch": torch.__version__, **about, "models": results}
    save(options.out, "overhead", report, as_table(results), READING)


if __name__ == "__main__":
    main()
