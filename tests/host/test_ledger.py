"""The adapter costs what its arithmetic costs: counted by benchmarks/ledger.py, held to a count by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass

import pytest
from comfyui_firstframe_pack.firstframe.sites import SD15, Site
from conftest import HOST, ROOT

BENCHMARKS = ROOT / "benchmarks"
sys.path.append(str(BENCHMARKS))
from counting import READ_BY_CPU, SENT, Ledger  # noqa: E402

SIZE, FRAMES, CLIPS = 512, 16, 2
OUTSIDE = ((FRAMES, 4, SIZE // 8, SIZE // 8), ())
"""Shapes of the clip's latents, and of a number that is taken from them."""

ALLOWANCE = 1.1
HALF = 2
GUIDANCE = {"text": "", "dual": ", dual guidance"}
"""How the names of the ledger's ways end. With dual guidance a third clip is in the call, which has no image."""


@dataclass(frozen=True)
class Cost:
    """FLOPs and bytes counted by hand."""

    flops: int
    bytes: int


def by_hand(held: int = 1) -> Cost:
    """What the adapter has to do in one evaluation of the UNet, at least.

    At a site of width C with N positions, for F frames in each of B clips that see the image, R of them held, in 16 bit
    (all numbers below are elements of 2 bytes; X = B F N C):

    | operation | FLOPs | read | written |
    |---|---|---|---|
    | queries, ``x W_Q'`` | 2 X C | X + C C | X |
    | attention to the held frames | 4 X R N | X + 2 B R N C | X |
    | output, ``a W_O' + b`` | 2 X C | X + C C + C | X |
    | adding it to the self-attention's output | | 2 X | X |

    Keys and values of the held frames are rows of the projections that self-attention makes anyway, so that they cost
    nothing; attention reads them where they are. A multiplication and its addition are two FLOPs; sums without a
    multiplication, and what a softmax takes, are none.
    """
    flops = elements = 0
    for site, width in SD15.attention_sites.items():
        places = positions(site)
        states = CLIPS * FRAMES * places * width
        queries = 2 * states + width**2
        attention = 2 * states + 2 * CLIPS * held * places * width
        output = 2 * states + width**2 + width
        addition = 3 * states
        flops += 2 * states * width + 4 * states * held * places + 2 * states * width
        elements += queries + attention + output + addition
    return Cost(flops, HALF * elements)


def positions(site: Site) -> int:
    """N, of a feature map at ``site``."""
    last = len(SD15.block_out_channels) - 1
    level = {"down": site.block, "mid": last, "up": last - site.block}[site.stage]
    return (SIZE // 8 // 2**level) ** 2


@pytest.fixture(scope="module")
def ledgers() -> dict[str, Ledger]:
    """A step with the adapter and one without, by both kinds of guidance. A host of its own, as with a card."""
    ways = [f"{parts}{guidance}" for guidance in GUIDANCE.values() for parts in ("base", "base + adapter")]
    options = ["--size", SIZE, "--frames", FRAMES, *(option for way in ways for option in ("--way", way))]
    command = [sys.executable, BENCHMARKS / "ledger.py", "--count", *map(str, options)]
    output = subprocess.run(command, cwd=HOST, stdout=subprocess.PIPE, text=True, check=True).stdout
    return {way: Ledger.from_json(rows) for way, rows in json.loads(output.splitlines()[-1]).items()}


@pytest.fixture(params=GUIDANCE)
def added(request: pytest.FixtureRequest, ledgers: dict[str, Ledger]) -> Ledger:
    """What the adapter adds to a step."""
    return in_the_unet(difference(ledgers, GUIDANCE[request.param]))


def difference(ledgers: dict[str, Ledger], guidance: str) -> Ledger:
    return ledgers[f"base + adapter{guidance}"] - ledgers[f"base{guidance}"]


def in_the_unet(ledger: Ledger) -> Ledger:
    """Without what is done with the clip's latents, outside of the UNet."""
    kept = {operation: count for operation, count in ledger.operations.items() if operation.shape not in OUTSIDE}
    return Ledger(Counter(kept))


def listed(ledger: Ledger) -> str:
    """The operations, for a message."""
    return ", ".join(
        f"{part.count} {name} ({part.bytes / 1e9:.3f} GB, {part.flops / 1e12:.3f} TFLOP)"
        for name, part in sorted(ledger.by(lambda operation: operation.name).items())
    )


def test_bytes_and_flops_are_those_of_the_arithmetic(added: Ledger) -> None:
    found = Cost(added.flops, added.bytes)
    assert found.flops <= ALLOWANCE * by_hand().flops, listed(added)
    assert found.bytes <= ALLOWANCE * by_hand().bytes, listed(added)


@pytest.fixture
def visits(request: pytest.FixtureRequest) -> int:
    """How often the adapter computes in a step: at each site, once for each run of clips that see the image.

    With dual guidance these are two: SAG wants the negative prompt, which sees none, in the middle of the three.
    """
    return len(SD15.attention_sites) * (2 if request.node.callspec.params["added"] == "dual" else 1)


def test_the_count_sees_the_whole_adapter(added: Ledger, visits: int) -> None:
    """Nothing hides from the ledger: what was counted by hand is there."""
    attention = added.by(lambda operation: operation.kind)["attention"]
    assert attention.count == visits
    assert added.flops >= by_hand().flops
    assert added.bytes >= by_hand().bytes


def test_four_operations_at_a_site_and_no_other(added: Ledger, visits: int) -> None:
    kinds = {kind: part.count for kind, part in added.by(lambda operation: operation.kind).items()}
    assert kinds == {"matrix product": 2 * visits, "attention": visits, "addition": visits}, listed(added)


def test_nothing_waits_for_the_card(ledgers: dict[str, Ledger]) -> None:
    """In no step does the CPU read what the GPU computed."""
    reads = {way: ledger.by(lambda operation: operation.kind).get(READ_BY_CPU) for way, ledger in ledgers.items()}
    assert {way: listed(read) for way, read in reads.items() if read} == {}


def test_the_search_for_nan_is_next_to_nothing(ledgers: dict[str, Ledger]) -> None:
    """Less than a thousandth of what a step moves."""
    added, step = difference(ledgers, ""), ledgers["base"]
    watch = added - in_the_unet(added)
    assert watch.by(lambda operation: operation.name)[SENT].count == 1
    assert watch.count <= 10, listed(watch)
    assert watch.bytes < step.bytes / 1000, listed(watch)
