"""The pages of `firstframe measure tiny` and `firstframe measure prior`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .figures import as_plot, bars, lines
from .films import films_in
from .glossary import NUMBERS, plain
from .page.blocks import Page, Plot, Section, Still, Table

Rows = Mapping[str, Mapping[str, float]]

_SCENES = (
    "Scenes are rendered: one coloured shape on a textured ground, moving as a sentence says, so that the true clip, "
    "the true first frame and the true direction are known. No training saw them."
)
_COMPARED = {"ssim": "autoencoder", "psnr": "autoencoder", "flow_score": "truth", "warping_error": "truth"}


def tiny_page(report: Mapping[str, Any], folder: Path) -> Page:
    """Of what :func:`.tiny.measure_tiny` wrote into a folder."""
    others = {name: report[name] for name in ("autoencoder", "truth")}
    table = Table(f"Means over {report['scenes']} scenes", named_rows({**report["variants"], **others}))
    clips = Section(
        "Clips",
        "The first frame of the true clip is the picture, its caption the sentence. All clips of a scene are shown at "
        "once, eight frames a second.",
        films=films_in(folder / "films"),
        stills=[Still(folder / "report.png", "The same clips, frame by frame")],
    )
    numbers = Section("Numbers", _SCENES, tables=[table], plots=bars_of_variants(report["variants"], others))
    return Page(
        title="FirstFrame: the tiny model on rendered scenes",
        lead=f"{report['scenes']} scenes, each animated from its first frame and its caption. What is compared:",
        sections=[clips, numbers],
        report=report,
        file="report.json",
        variants=[*report["variants"], *others],
    )


def prior_page(report: Mapping[str, Any], folder: Path) -> Page:
    """Of what :func:`.prior.measure_prior` wrote into a folder."""
    rows = report["rows"]
    knobs = Section(
        "t0 and p",
        "The frame similarity prior (arXiv 2312.16693, section 3.3) starts every frame from the picture, part of it "
        "blurred. t0 is where in the noise schedule sampling starts: less is nearer to the picture. p is the share of "
        "the picture that stays sharp.",
        tables=[Table(f"The adapter's clips, means over {report['scenes']} scenes", rows)],
        plots=[
            as_plot(_over(rows, knob, other, number))
            for knob, other in (("t0", "p"), ("p", "t0"))
            for number in ("flow_score", "warping_error")
        ],
    )
    clips = Section("Clips", f"One scene with every setting. {_SCENES}", films=films_in(folder / "films"))
    return Page(
        title="FirstFrame: the frame similarity prior",
        lead="How much moves, and how steadily, over the two knobs of the prior.",
        sections=[knobs, clips],
        report=report,
        file="prior.json",
    )


def named_rows(rows: Rows) -> list[dict[str, Any]]:
    """Numbers by variant as rows of a table."""
    return [{"variant": name, **numbers} for name, numbers in rows.items()]


def bars_of_variants(rows: Rows, others: Rows) -> list[Plot]:
    """One drawing for each number; where ``others`` has a ceiling or the truth for it, beside it."""
    drawn = []
    for key in next(iter(rows.values())):
        marks = {plain(name): numbers[key] for name, numbers in others.items() if _COMPARED.get(key) == name}
        values = {plain(name): numbers[key] for name, numbers in rows.items()}
        drawn.append(as_plot(bars(NUMBERS[key].label, values, NUMBERS[key].digits, marks)))
    return drawn


def _over(rows: Sequence[Mapping[str, float]], knob: str, other: str, number: str) -> Any:
    """One number over one knob, where the other is 1."""
    line = sorted((row[knob], row[number]) for row in rows if row[other] == 1.0)
    label = NUMBERS[number].label
    x, y = zip(*line, strict=True)
    return lines(f"{label} over {knob}, {other} = 1", knob, label, {"adapter": (x, y)}, digits=NUMBERS[number].digits)
