"""The memory of the card that one guided step takes at its highest, beyond the weights, counted without a GPU.

    python benchmarks/peak.py --size 512 --frames 16 --out benchmarks/results

As benchmarks/ledger.py: Stable Diffusion 1.5 at its full size in ComfyUI, in 16 bit, on tensors that only claim to be
on a card. Attention is fused. Beside it stands what the host is told: its own estimate for two prompts, and what the
retention branch reports. Writes peak.json and peak.md.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from common import arguments, import_host, run_in_host, save

CONFIGS = (
    "base",
    "motion v1",
    "motion v2",
    "motion v2 + adapter",
    "motion v2 + adapter + retention",
    "base, dual guidance",
    "motion v2 + adapter, dual guidance",
)
READING = (
    "MiB of activations at the highest point of a step; weights and what kernels reserve come on top. The host plans "
    "with its estimate, and with what the branch reports."
)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """In a process of its own, which becomes a host."""
    found: dict[str, Any] = json.loads(
        run_in_host(__file__, "--count", "--size", options.size, "--frames", options.frames)
    )
    return found


def measure_here(size: int, frames: int) -> str:
    """The same in this process, as JSON."""
    import_host("--cpu", "--use-pytorch-cross-attention")
    from guided_step import Clip, peaks

    return json.dumps({"size": size, "frames": frames, **peaks(Clip(size, frames), CONFIGS)})


def as_markdown(report: dict[str, Any]) -> str:
    base = report["peaks"]["base"]
    lines = [
        f"One guided step, {report['size']} px x {report['frames']} frames, 16 bit.",
        "",
        "| step | MiB | to base |",
        "|---|---|---|",
    ]
    lines += [f"| {way} | {peak:.0f} | x{peak / base:.2f} |" for way, peak in report["peaks"].items()]
    lines += ["", f"The host's estimate for two prompts: {report['estimate']:.0f} MiB."]
    lines += [f"The retention branch reports {report['reported']:.0f} MiB, for clips as long as it has positions for."]
    return "\n".join(lines)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--size", type=int, default=512, help="pixels of a side (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=16, help="frames of the clip (default: %(default)s)")
    parser.add_argument("--count", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.count:
        print(measure_here(options.size, options.frames))
        return
    report = measure(options)
    save(options.out, "peak", report, as_markdown(report), READING)


if __name__ == "__main__":
    main()
