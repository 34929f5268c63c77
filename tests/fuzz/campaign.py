"""Attacks the project with damaged files and hostile servers; how many cases were accepted, refused or crashed.

    python tests/fuzz/campaign.py --minutes 30                       # all targets, from a seed drawn at random
    python tests/fuzz/campaign.py --target weights --cases 10000
    python tests/fuzz/campaign.py --target weights --seed 4711 --cases 1     # one case again, as a crash prints it

A case crashes where it raises another error than FirstFrame's own, takes longer than ten seconds, or the process has
held more than 2 GB. Nodes are attacked in ComfyUI: tests/host/test_fuzz_nodes.py.
"""

from __future__ import annotations

import argparse
import itertools
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "queue"), str(HERE.parents[1])]

import torch  # noqa: E402
from targets import TARGETS  # noqa: E402

MOST_SECONDS = 10
MOST_MEMORY = 2 << 30
SEEDS = 10**9


class TooSlow(Exception):
    """A case that takes too long."""


def attack(target: str, seed: int) -> str:
    """One case: "accepted", "refused", or why it crashed."""
    with tempfile.TemporaryDirectory(prefix="firstframe-fuzz-") as folder:
        signal.setitimer(signal.ITIMER_REAL, MOST_SECONDS)
        try:
            torch.manual_seed(seed)
            accepted = TARGETS[target](random.Random(f"{target} {seed}"), Path(folder))
        except Exception:
            return traceback.format_exc(limit=-6)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    return "accepted" if accepted else "refused"


def campaign(target: str, seeds: Iterable[int], end: float) -> Counter[str]:
    """Cases until the seeds or the time run out. A crash is printed with the way to repeat it."""
    found: Counter[str] = Counter()
    for seed in seeds:
        result = attack(target, seed)
        if memory() > MOST_MEMORY:
            result = f"the process has held {memory() / 1e9:.1f} GB\n"
        if result not in ("accepted", "refused"):
            print(f"{result}Repeat it: python tests/fuzz/campaign.py --target {target} --seed {seed} --cases 1\n")
            result = "crashed"
        found[result] += 1
        if time.monotonic() > end:
            break
    return found


def memory() -> int:
    """The most that this process has held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def report(target: str, found: Counter[str], seconds: float) -> str:
    counts = ", ".join(f"{kind} {found[kind]}" for kind in ("accepted", "refused", "crashed"))
    return f"{target}: tried {found.total()}, {counts}; {seconds:.0f} s, at most {memory() / 2**20:.0f} MiB"


def too_slow(*_: Any) -> None:
    raise TooSlow(f"longer than {MOST_SECONDS} s")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", action="append", choices=TARGETS, help="may be given several times; default: all")
    parser.add_argument("--minutes", type=float, help="for all targets together")
    parser.add_argument("--cases", type=int, help="of each target")
    parser.add_argument("--seed", type=int, help="of the first case; the others follow")
    return parser.parse_args()


def main() -> int:
    """1 where a case crashed."""
    options, crashed = parse(), 0
    signal.signal(signal.SIGALRM, too_slow)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    targets = options.target or list(TARGETS)
    seconds = 60 * options.minutes / len(targets) if options.minutes else float("inf")
    count = options.cases or (None if options.minutes else 100)
    first = random.SystemRandom().randrange(SEEDS) if options.seed is None else options.seed
    print(f"from seed {first}", flush=True)
    for target in targets:
        start = time.monotonic()
        found = campaign(target, itertools.islice(itertools.count(first), count), start + seconds)
        print(report(target, found, time.monotonic() - start), flush=True)
        crashed += found["crashed"]
    return int(crashed > 0)


if __name__ == "__main__":
    sys.exit(main())
