"""Milliseconds and memory of one guided step on this machine's GPU, with random weights of full size.

    python benchmarks/step_time.py [--model sdxl] [--size 512] [--frames 16] [--way "motion v2 + adapter" ...]

The same ways as in ledger.py, in ComfyUI (found as tests/host/run.py finds it), in 16 bit, with all weights on the
card. Each is the median of a few steps; the first is measured again at the end, so that a drift shows. Writes
step_time.json and step_time.md, or step_time_sdxl.json and step_time_sdxl.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from common import arguments, import_host, run_in_host, save
from ledger import CONFIGS, SDXL_CONFIGS

WARM_UP, STEPS = 2, 7
READING = "ms is the median of one step; x is against the first row; GB is the most memory that PyTorch allocated."


def measure_here(size: int, frames: int, ways: Iterable[str]) -> dict[str, Any]:
    """Each way in this process, which becomes a host."""
    import_host("--use-pytorch-cross-attention")
    import torch
    from guided_step import GUIDERS, SDXL_GUIDERS, SDXL_MOTION, Clip, ManyEvaluations, Parts, fill, run_through

    from firstframe.sites import SDXL

    ways, found = list(ways), {}
    guiders = SDXL_GUIDERS if ways[0] in SDXL_GUIDERS else GUIDERS
    with torch.inference_mode():
        clip = Clip(size, frames)
        parts = Parts(clip, SDXL, SDXL_MOTION) if guiders is SDXL_GUIDERS else Parts(clip)
        for part in (parts.base, parts.adapter, parts.branch, *parts.motion.values()):
            fill(part)
        for way in [*ways, ways[0]]:
            timed = run_through(guiders[way](parts), clip, ManyEvaluations(WARM_UP, STEPS))
            name = f"{way}, again" if way in found else way
            found[name] = {"milliseconds": timed.milliseconds, "gigabytes": timed.gigabytes}
        card = torch.cuda.get_device_name()
    return {"card": card, "torch": torch.__version__, "size": size, "frames": frames, "ways": found}


def as_markdown(report: dict[str, Any]) -> str:
    """A row for each way."""
    first = next(iter(report["ways"].values()))["milliseconds"]
    title = f"{report['card']}, PyTorch {report['torch']}, {report['size']} px x {report['frames']} frames, guided:"
    lines = [title, "", "| step | ms | x | GB |", "|---|---|---|---|"]
    for way, row in report["ways"].items():
        lines.append(
            f"| {way} | {row['milliseconds']:.1f} | {row['milliseconds'] / first:.2f} | {row['gigabytes']:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--model", choices=("sd15", "sdxl"), default="sd15")
    parser.add_argument("--size", type=int)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--way", action="append", choices=(*CONFIGS, *SDXL_CONFIGS))
    parser.add_argument("--here", action="store_true", help="measure in this process, which stands in a host's folder")
    options = parser.parse_args()
    size = options.size or (1024 if options.model == "sdxl" else 512)
    ways = options.way or (SDXL_CONFIGS if options.model == "sdxl" else CONFIGS)
    if options.here:
        print("\n" + json.dumps(measure_here(size, options.frames, ways)))
        return
    chosen = [option for way in ways for option in ("--way", way)]
    report = json.loads(run_in_host(__file__, "--here", "--size", size, "--frames", options.frames, *chosen))
    name = "step_time_sdxl" if options.model == "sdxl" else "step_time"
    save(options.out, name, report, as_markdown(report), READING)


if __name__ == "__main__":
    main()
