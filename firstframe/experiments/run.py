"""The runner of all experiments: measures, keeps what it has, and writes one report."""

from __future__ import annotations

import json
import math
import platform
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from .. import __version__
from ..clips.metrics.plot import side_by_side
from ..tiny.model import TinyModel
from ..tiny.style import with_look
from .evaluator import Evaluator, Measured
from .experiment import Case, Clip, Experiment, Report, Setup
from .methods import REFERENCES
from .page import write_pages
from .shown import write_clips

Run = tuple[Experiment, Evaluator, list[Clip]]
Done = tuple[Clip, Measured]


def measure(
    report: Report,
    model: TinyModel,
    setup: Setup,
    folder: Path,
    only: Sequence[str] = (),
    tell: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Measure the experiments of a report; write its JSON and Markdown files, report.html, plots and clips.

    What is measured of every clip is kept in ``folder/kept``: the same call continues an interrupted one. After Ctrl-C
    the report holds the targets that are complete, and KeyboardInterrupt is raised again.

    Args:
        only: names of experiments; empty means all. Of the others, what the folder's JSON file says stays.
        tell: takes lines about the plan and about an interruption.

    Returns:
        What is in the JSON file: by the experiments' names their rows, the number of clips that every number is a
        mean over, and the files of the clips shown.
    """
    bases = {"plain": lambda: model, "dusk": lambda: with_look(model)}
    chosen = [one for one in report.experiments if not only or one.name in only]
    runs = [(one, Evaluator(bases[one.look](), folder / "kept"), one.clips(setup)) for one in chosen]
    _tell_plan(report, runs, tell)
    file = folder / f"{report.name}.json"
    results: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    results |= {"version": __version__, "made_with": _made_with(), **asdict(setup)}
    stopped = False
    for one, evaluator, clips in runs:
        done, stopped = _measured(one, evaluator, clips)
        if done:
            results[one.name] = _written(one, done, folder)
            file.write_text(json.dumps(results, indent=2) + "\n", "utf-8")
        if stopped:
            break
    write_pages(folder, report, results)
    if stopped:
        tell(f"Stopped. {folder / 'report.html'} holds what is complete; the same command continues.")
        raise KeyboardInterrupt
    return results


def _tell_plan(report: Report, runs: Sequence[Run], tell: Callable[[str], None]) -> None:
    """Tell what will be measured, and about how long it takes: as the first two clips, of which one warms up."""
    clips = [(evaluator, clip) for _, evaluator, clips in runs for clip in clips]
    left = [(evaluator, clip) for evaluator, clip in clips if not evaluator.is_kept(clip)]
    names = ", ".join(one.name for one, *_ in runs)
    tell(f"{report.title}: {len(clips)} clips ({names}), {len(clips) - len(left)} of them kept from an earlier run.")
    sampled = [(evaluator, clip) for evaluator, clip in left if clip.case.method not in REFERENCES]
    begun, steps = perf_counter(), 1
    for evaluator, clip in sampled[:2]:
        begun, steps = perf_counter(), clip.settings.steps
        evaluator.measure(clip)
    seconds = (perf_counter() - begun) / steps * sum(clip.settings.steps for _, clip in sampled[2:])
    tell(
        f"It takes about {tqdm.format_interval(seconds)} (minutes:seconds). Ctrl-C writes a report of what is complete."
    )


def _measured(experiment: Experiment, evaluator: Evaluator, clips: Sequence[Clip]) -> tuple[list[Done], bool]:
    """Measure target by target. Returns the clips of complete targets, and whether Ctrl-C stopped it."""
    done: list[Done] = []
    stopped = False
    try:
        for clip in tqdm(clips, desc=experiment.name, unit="clip"):
            done.append((clip, evaluator.measure(clip)))
    except KeyboardInterrupt:
        stopped = True
    return done[: len(done) - len(done) % len(experiment.cases)], stopped


def _written(experiment: Experiment, done: Sequence[Done], folder: Path) -> dict[str, Any]:
    """Write clips and plots, and return what the JSON file says about an experiment."""
    rows = [row for case in experiment.cases if (row := _row(experiment, case, done))]
    shown: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for clip, measured in done:
        if measured.frames is not None:
            heading, name = experiment.clip_name(clip.target, clip.case)
            shown[heading][name] = torch.from_numpy(measured.frames)
    side_by_side(experiment.title, experiment.panels(rows)).savefig(folder / f"{experiment.name}.png", dpi=110)
    files = write_clips(folder, experiment.name, shown) if shown else {}
    return {"clips": len(done) // len(experiment.cases), "rows": rows, "shown": files}


def _row(experiment: Experiment, case: Case, done: Sequence[Done]) -> dict[str, Any]:
    """The means over the clips of a case that have a number, to four digits; empty for a case without numbers."""
    names = experiment.numbers if case.numbers is None else case.numbers
    clips = [measured.numbers for clip, measured in done if clip.case is case]
    means = {name: _mean([numbers[name] for numbers in clips]) for name in names}
    return {**case.row, **means} if names else {}


def _mean(values: Sequence[float]) -> float | None:
    """NaN counts as missing; None where all are."""
    there = [value for value in values if not math.isnan(value)]
    return round(float(np.mean(there)), 4) if there else None


def _made_with() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    packages = {name: version(name) for name in ("torch", "diffusers", "kornia")}
    return {"firstframe": __version__, "Python": platform.python_version(), **packages, "OpenCV": cv2.__version__}
