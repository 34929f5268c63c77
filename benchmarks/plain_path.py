"""Did the quickstart's path change, or get slower, since a revision of this repository?

    python benchmarks/plain_path.py --before 46889bc --rounds 5 --out benchmarks/results

Samples the example image with the tiny model in ComfyUI (found as tests/host/run.py finds it), by turns with the code
of that revision and with this checkout's, each time in a process of its own; the one that goes first changes. Writes
plain_path.json and plain_path.md: seconds per step (the median of a round, of the fastest round, because whatever else
the machine does only ever adds), their ratio, how many floating point operations there were, and whether the latents
are the same to the last bit. 46889bc is the last revision before windows, schedules and previews came.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from common import ROOT, arguments, first_host, import_host, run_in_host, save
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

READING = "a ratio means something only where it is further from 1 than rounds of the same code are from each other."
FRAMES, STEPS, CFG = 16, 12, 2.0
CAPTIONS = ("a red heart moves right quickly, still camera", "")


def sample(checkout: Path) -> dict[str, Any]:
    """Seconds of the median step, operations of a whole run, and a digest of its latents.

    Imports the host, and the pack's core in ``checkout``.
    """
    import_host("--cpu", checkout=checkout)
    from host_sampling import sample_clip

    from firstframe.bindings.comfy.adapter import apply_adapter
    from firstframe.bindings.comfy.first_frame import hold_first_frame
    from firstframe.clips.reference import prepare_image
    from firstframe.sampling.prior import mask_generator, prior_mean
    from firstframe.shapes import fold_frames
    from firstframe.tiny import comfy as tiny

    vae, clip = tiny.load_tiny_vae(), tiny.load_tiny_clip()
    image = prepare_image(checkout / "firstframe" / "tiny" / "example.png", 128, 128)
    latent = vae.encode(image.movedim(1, -1))
    model = hold_first_frame(apply_adapter(tiny.load_tiny_model(), tiny.load_tiny_adapter(), 1.0), latent)
    start = fold_frames(prior_mean(latent, FRAMES, 0.5, mask_generator(0)))
    prompts = [clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in CAPTIONS]
    times: list[float] = []

    def run() -> Tensor:
        return sample_clip(model, prompts, start, STEPS, CFG, lambda *_: times.append(time.perf_counter()))

    latents = run()
    steps = [after - before for before, after in pairwise(times)]
    with FlopCounterMode(display=False) as counted:
        run()
    return {
        "seconds": median(steps),
        "operations": counted.get_total_flops(),
        "latents": hashlib.sha256(latents.cpu().numpy().tobytes()).hexdigest(),
    }


def sample_in_new_process(checkout: Path) -> dict[str, Any]:
    return dict(json.loads(run_in_host(__file__, "--sample", checkout)))


@contextmanager
def checkout_of(revision: str) -> Iterator[Path]:
    """A throw-away checkout."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "before"
        subprocess.run(["git", "worktree", "add", "--detach", path, revision], cwd=ROOT, check=True)
        try:
            yield path
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", path], cwd=ROOT, check=True)


def measure(revision: str, rounds: int) -> dict[str, Any]:
    with checkout_of(revision) as before:
        checkouts = {"before": before, "now": ROOT}
        runs = [{name: sample_in_new_process(checkouts[name]) for name in _turns(index)} for index in range(rounds)]
    seconds = {name: min(run[name]["seconds"] for run in runs) for name in checkouts}
    operations = {name: runs[0][name]["operations"] for name in checkouts}
    digests = {run[name]["latents"] for run in runs for name in run}
    spread = max(run["before"]["seconds"] for run in runs) / seconds["before"]
    ratio = seconds["now"] / seconds["before"]
    return {
        "before": revision,
        "rounds": rounds,
        "seconds_per_step": seconds,
        "ratio": ratio,
        "operations": operations,
        "slowest_to_fastest_round_before": spread,
        "same_bits": len(digests) == 1,
    }


def _turns(index: int) -> tuple[str, str]:
    return ("before", "now") if index % 2 else ("now", "before")


def as_markdown(report: dict[str, Any]) -> str:
    same = "the same to the last bit" if report["same_bits"] else "NOT the same"
    operations = "{before:,} before, {now:,} now".format(**report["operations"])
    return (
        f"| seconds per step | before ({report['before']}) | now | ratio | slowest to fastest round before |\n"
        "|---|---|---|---|---|\n"
        f"| tiny, 128 px x {FRAMES} frames | {report['seconds_per_step']['before']:.3f} "
        f"| {report['seconds_per_step']['now']:.3f} | x{report['ratio']:.2f} "
        f"| x{report['slowest_to_fastest_round_before']:.2f} |\n\n"
        f"Latents of {report['rounds']} rounds: {same}. Floating point operations of a run: {operations}.\n"
    )


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--before", default="46889bc")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sample", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.sample:
        import torch

        with torch.inference_mode():
            print("\n" + json.dumps(sample(options.sample)))
        return
    first_host()
    report = measure(options.before, options.rounds)
    save(options.out, "plain_path", report, as_markdown(report), READING)


if __name__ == "__main__":
    main()
