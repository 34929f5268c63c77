"""What one guided step does, counted without a GPU and without weights: operations, FLOPs and bytes.

    python benchmarks/ledger.py --card "RTX 4090" --size 512 --frames 16 --out benchmarks/results
    python benchmarks/ledger.py --model sdxl --size 1024 --out benchmarks/results

Stable Diffusion 1.5, or SDXL, at its full size in ComfyUI (found as tests/host/run.py finds it; its PyTorch has to be
a build with CUDA, a card is not needed), in 16 bit, with motion module, I2V adapter and retention branch. Tensors only
claim to be on a card. AnimateDiff-Evolved's motion modules stand beside ours where FIRSTFRAME_PACKS (default
~/comfy/packs) has that pack. Fused attention is one operation. Each operation takes at best the longer of its bytes
through the card's bandwidth and its FLOPs through the card's FLOP/s; the sum is the roofline time. Every run counts the
same. Writes ledger.json and ledger.md, or ledger_sdxl.json and ledger_sdxl.md. How to read them: docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from common import EVOLVED, arguments, import_host, run_in_host, save
from counting import Ledger, Operation

CONFIGS = (
    "base",
    "motion v1",
    "motion v2",
    "motion v2 + adapter",
    "motion v2 + adapter, fast",
    "motion v2 + adapter + retention",
    "motion v2 + adapter, dual guidance",
)
SDXL_CONFIGS = (
    "SDXL",
    "SDXL, motion",
    "SDXL, motion + adapter",
    "SDXL, motion + adapter, fast",
    "SDXL, motion + adapter + retention",
    "SDXL, motion + adapter, dual guidance",
)
OF_EVOLVED = ("AnimateDiff-Evolved v1", "AnimateDiff-Evolved v2")
ADDED = (
    ("motion v2", "base"),
    ("motion v2 + adapter", "motion v2"),
    ("motion v2 + adapter, fast", "motion v2"),
    ("motion v2 + adapter + retention", "motion v2 + adapter"),
    ("SDXL, motion", "SDXL"),
    ("SDXL, motion + adapter", "SDXL, motion"),
    ("SDXL, motion + adapter + retention", "SDXL, motion + adapter"),
)
"""What is shown operation by operation: the first less the second."""

READING = "ms is a lower bound for operations run one by one; compare rows by their ratio (docs/performance.md)."
SMALL = 5e6
"""Bytes of all operations of a name, below which they have no row of their own."""


@dataclass(frozen=True)
class Card:
    """What a vendor says of a card: GB/s, and TFLOP/s of dense 16 bit products that are summed in 32 bit."""

    name: str
    bandwidth: float
    flops: float

    def milliseconds(self, ledger: Ledger) -> float:
        """The roofline time."""
        return 1e3 * ledger.seconds(1e9 * self.bandwidth, 1e12 * self.flops)


CARDS = {
    card.name: card for card in (Card("RTX 3060", 360, 25.5), Card("RTX 4090", 1008, 165.2), Card("H200", 4800, 989))
}


def count(size: int, frames: int, ways: Iterable[str]) -> dict[str, Ledger]:
    """A guided step in each of the ways, in a process of its own."""
    options = ["--size", size, "--frames", frames, *(option for way in ways for option in ("--way", way))]
    found = json.loads(run_in_host(__file__, "--count", *options))
    return {way: Ledger.from_json(rows) for way, rows in found.items()}


def count_here(size: int, frames: int, ways: Iterable[str]) -> str:
    """The same in this process, which becomes a host; as JSON."""
    import_host("--cpu", "--use-pytorch-cross-attention")
    from guided_step import Clip, count_steps

    return json.dumps({way: ledger.as_json() for way, ledger in count_steps(Clip(size, frames), ways).items()})


def summary(ledger: Ledger, cards: Iterable[Card]) -> dict[str, Any]:
    """Operations, FLOPs, bytes and the roofline time on each card."""
    return {
        "operations": ledger.count,
        "flops": ledger.flops,
        "bytes": ledger.bytes,
        "milliseconds": {card.name: round(card.milliseconds(ledger), 2) for card in cards},
    }


def by_kind(ledger: Ledger, cards: list[Card]) -> dict[str, Any]:
    """Summaries of each kind, the most bytes first."""
    parts = sorted(ledger.by(lambda operation: operation.kind).items(), key=lambda part: -part[1].bytes)
    return {kind: summary(part, cards) for kind, part in parts}


def by_name(ledger: Ledger, cards: list[Card]) -> dict[str, Any]:
    """Summaries of each operation that PyTorch has a name for; those that move next to nothing together."""
    parts = sorted(ledger.by(lambda operation: operation.name).items(), key=lambda part: -part[1].bytes)
    large = {name: summary(part, cards) for name, part in parts if part.bytes >= SMALL}
    small = sum((part.operations for _, part in parts if part.bytes < SMALL), Counter[Operation]())
    return {**large, "small ones": summary(Ledger(small), cards)} if small else large


def table(head: str, rows: dict[str, dict[str, Any]], cards: list[Card]) -> list[str]:
    lines = [f"| {head} | operations | TFLOP | GB | " + " | ".join(f"ms, {card.name}" for card in cards) + " |"]
    lines += ["|---" * (4 + len(cards)) + "|"]
    for name, row in rows.items():
        times = " | ".join(f"{row['milliseconds'][card.name]:.1f}" for card in cards)
        lines += [f"| {name} | {row['operations']} | {row['flops'] / 1e12:.2f} | {row['bytes'] / 1e9:.2f} | {times} |"]
    return [*lines, ""]


def as_markdown(report: dict[str, Any], cards: list[Card]) -> str:
    lines = [
        f"One guided step, {report['size']} px x {report['frames']} frames, 16 bit. ms: the roofline.",
        "",
    ]
    lines += table("step", {way: found["all"] for way, found in report["steps"].items()}, cards)
    for way, found in report["steps"].items():
        lines += [f"### {way}", "", *table("kind", found["by kind"], cards)]
    for name, found in report["added"].items():
        lines += [f"### {name}", "", *table("operation", found, cards)]
    return "\n".join(lines)


def measure(options: argparse.Namespace, cards: list[Card]) -> dict[str, Any]:
    of_evolved = OF_EVOLVED if EVOLVED.is_dir() else ()
    rows = SDXL_CONFIGS if options.model == "sdxl" else (*CONFIGS, *of_evolved)
    ledgers = count(options.size, options.frames, options.way or rows)
    steps = {way: {"all": summary(ledger, cards), "by kind": by_kind(ledger, cards)} for way, ledger in ledgers.items()}
    added = {
        f"{more}, beyond {less}": by_name(ledgers[more] - ledgers[less], cards)
        for more, less in ADDED
        if more in ledgers and less in ledgers
    }
    return {"size": options.size, "frames": options.frames, "steps": steps, "added": added}


def parse() -> argparse.Namespace:
    parser = arguments(__doc__)
    parser.add_argument("--model", choices=("sd15", "sdxl"), default="sd15", help="default: %(default)s")
    parser.add_argument("--size", type=int, default=512, help="pixels of a side (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=16, help="frames of the clip (default: %(default)s)")
    parser.add_argument("--card", action="append", choices=CARDS, help="may be given several times; default: all")
    parser.add_argument("--bandwidth", type=float, help="GB/s of another card, with --flops")
    parser.add_argument("--flops", type=float, help="TFLOP/s of another card, with --bandwidth")
    parser.add_argument("--way", action="append", help="a row of the first table; may be given several times")
    parser.add_argument("--count", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    options = parse()
    if options.count:
        print("\n" + count_here(options.size, options.frames, options.way))
        return
    own = [Card("this card", options.bandwidth, options.flops)] if options.bandwidth and options.flops else []
    cards = own or [CARDS[name] for name in options.card or CARDS]
    report = measure(options, cards)
    name = "ledger_sdxl" if options.model == "sdxl" else "ledger"
    save(options.out, name, report, as_markdown(report, cards), READING)


if __name__ == "__main__":
    main()
