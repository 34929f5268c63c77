"""A folder of clips and one of references to a table and a page."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ... import __version__
from ...clips.metrics.plot import Panel, bars
from ..page import page_environment
from .embedding import ClipEmbedding
from .flow import Dis, Flow, Raft
from .measure import TERMS, Measured, measure_clip
from .pairs import Pair, find_pairs
from .sets import c3d_probabilities, frechet_distance, i3d_features, inception_score, stacked, torchscript

MOST_BARS = 24
"""Of more clips, no bars are drawn."""
Tell = Callable[[int, int], None]


@dataclass(frozen=True)
class Weights:
    """Files that the user gives; a number that needs one which is not given is left out.

    Attributes:
        clip: CLIP's image encoder with its projection, in transformers' names.
        raft: torchvision's RAFT. Without it the flow is OpenCV's DIS.
        i3d: I3D in TorchScript, for FVD.
        c3d: C3D in TorchScript, for IS.
    """

    clip: Path | None = None
    raft: Path | None = None
    i3d: Path | None = None
    c3d: Path | None = None


def evaluate(
    clips: Path, references: Path, weights: Weights, device: torch.device, tell: Tell = lambda done, total: None
) -> dict[str, Any]:
    """Measure every clip of a folder against its reference.

    Args:
        clips, references: folders, as :func:`.pairs.find_pairs` takes them.
        weights: of the networks that measure.
        device: where those are computed.
        tell: told after each clip how many are done, of how many.

    Returns:
        "clips" (numbers by clip), "summary" (their means, and numbers of the whole set), "left_out" (what is not
        measured, and why), "made_with" (estimators, weights, versions).

    Raises:
        FirstFrameError: a clip has no reference, cannot be read, or is too short.
    """
    pairs = find_pairs(clips, references)
    flow: Flow = Raft(weights.raft, device) if weights.raft else Dis()
    clip = ClipEmbedding(weights.clip, device) if weights.clip else None
    measured: dict[str, Measured] = {}
    for pair in pairs:
        measured[pair.clip.name] = measure_clip(pair, flow, clip)
        tell(len(measured), len(pairs))
    numbers = {name: one.numbers for name, one in measured.items()}
    whole, left_out = _of_the_set(pairs, list(measured.values()), weights, clip, device)
    means = {key: float(np.mean([row[key] for row in numbers.values()])) for key in next(iter(numbers.values()))}
    named = {"flow": flow.name, "CLIP": clip.name if clip else "none"}
    named |= {kind: path.name for kind, path in (("I3D", weights.i3d), ("C3D", weights.c3d)) if path}
    versions = {"FirstFrame": __version__, "PyTorch": torch.__version__}
    return {"clips": numbers, "summary": {**means, **whole}, "left_out": left_out, "made_with": {**named, **versions}}


def _of_the_set(
    pairs: list[Pair], measured: list[Measured], weights: Weights, clip: ClipEmbedding | None, device: torch.device
) -> tuple[dict[str, float], dict[str, str]]:
    """Numbers of the set, and why others are left out."""
    found: dict[str, float] = {}
    reasons: dict[str, str] = {}
    true = list({pair.reference: pair for pair in pairs if pair.has_true_clip}.values())
    needed = "needs references that are clips, at least two" if len(true) < 2 or len(pairs) < 2 else ""
    if clip is None:
        reasons["FFF-CLIP, CLIPTemp, Fréchet distance"] = "CLIP's weights were not given (--clip)"
    elif needed:
        reasons["Fréchet distance, CLIP"] = needed
    else:
        truth = stacked([clip(pair.true_frames()).mean(0) for pair in true])
        found["frechet_clip"] = frechet_distance(stacked([one.embedding for one in measured]), truth)
    if weights.i3d is None or needed:
        reasons["FVD"] = needed or "I3D's weights were not given (--i3d)"
    else:
        network = torchscript(weights.i3d, device)
        made = stacked([i3d_features(network, pair.frames(), device) for pair in pairs])
        found["fvd"] = frechet_distance(made, stacked([i3d_features(network, p.true_frames(), device) for p in true]))
    if weights.c3d is None:
        reasons["IS"] = "C3D's weights were not given (--c3d)"
    else:
        network = torchscript(weights.c3d, device)
        found["video_is"] = inception_score(stacked([c3d_probabilities(network, p.frames(), device) for p in pairs]))
    return found, reasons


def write_evaluation(folder: Path, results: Mapping[str, Any], lead: str) -> Path:
    """Write evaluation.json, .csv and .html, a page that refers to nothing outside of itself; the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evaluation.json").write_text(json.dumps(results, indent=2), "utf-8")
    with (folder / "evaluation.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, ["clip", *results["summary"]])
        table.writeheader()
        table.writerows({"clip": name, **row} for name, row in results["clips"].items())
        table.writerow({"clip": "all", **results["summary"]})
    page = page_environment(folder).get_template("evaluation.html.j2")
    text = page.render(
        title="Evaluation of clips",
        lead=lead,
        results=results,
        terms={key: term for key, term in TERMS.items() if key in results["summary"]},
        panels=_panels(results["clips"]),
    )
    (folder / "evaluation.html").write_text(text, "utf-8")
    return folder / "evaluation.html"


def _panels(clips: Mapping[str, Mapping[str, float]]) -> list[Panel]:
    if len(clips) > MOST_BARS:
        return []
    keys = next(iter(clips.values()))
    return [bars(TERMS[key].label, {name: row[key] for name, row in clips.items()}, TERMS[key].digits) for key in keys]
