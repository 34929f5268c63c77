"""The page of `firstframe measure claims`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..figures import as_plot
from ..films import films_in
from ..page.blocks import Film, Films, Page, Section, Still, Table
from ..pages import bars_of_variants, named_rows
from ..scenes import ACTIONS
from .plots import PANELS
from .sections import PRIOR_SCENES, PRIOR_STEPS, SHOWN_SCALES

TEXTS = {
    "parts": (
        "The parts, alone and together",
        "What the I2V adapter (arXiv 2312.16693) and the frame retention branch (arXiv 2312.03018) add to the "
        "text-to-video base.",
    ),
    "other_look": (
        "The adapter on another look",
        "The adapter, as it is, on a base that was tuned to scenes at dusk after the adapter was trained.",
    ),
    "actions": (
        "One picture, many actions",
        "Every picture is sent into six actions. With single guidance one scale stands between neither picture nor "
        "text and both; with dual guidance the picture has one scale and the text another. The clips have image scale "
        f"{SHOWN_SCALES[0]:g} and text scale {SHOWN_SCALES[1]:g}.",
    ),
    "image_scale": (
        "Image scale, brightness and contrast",
        "One action of each picture. High image scales raise brightness and contrast; rescale and APG are two ways to "
        "take that back.",
    ),
    "prior": (
        "The frame similarity prior",
        "Motion and stability of the adapter's clips over t0, where sampling starts, and p, the share of the picture "
        f"that stays sharp; in {PRIOR_STEPS} steps or more.",
    ),
}


def claims_page(claims: Mapping[str, Any], folder: Path) -> Page:
    """Of what :func:`.measure_claims` wrote into a folder, in the order of TEXTS; what was not measured is absent."""
    sections = [_section(name, claims, folder) for name in TEXTS if name in claims]
    variants = dict.fromkeys(name for part in ("parts", "other_look") for name in claims.get(part, {}))
    return Page(
        title="FirstFrame: the papers' claims on rendered scenes",
        lead=(
            f"The tiny model on {claims['scenes']} rendered scenes and {claims['pictures']} pictures that no training "
            "saw. Every number is a mean over them."
        ),
        sections=sections,
        report=claims,
        file="claims.json",
        variants=["truth", *variants],
    )


def _section(name: str, claims: Mapping[str, Any], folder: Path) -> Section:
    title, text = TEXTS[name]
    measured = claims[name]
    by_variant = isinstance(measured, dict)
    plots = bars_of_variants(measured, {}) if by_variant else [as_plot(panel) for panel in PANELS[name][1](measured)]
    films = films_in(folder / "films" / name)
    still = folder / f"{name}_frames.png"
    return Section(
        title,
        text,
        tables=[Table(_means_over(name, claims), named_rows(measured) if by_variant else measured)],
        plots=plots,
        films=_under_each_prompt(films) if name == "actions" else films,
        stills=[Still(still, f"{title}: clips frame by frame")] if still.exists() else [],
    )


def _means_over(name: str, claims: Mapping[str, Any]) -> str:
    scenes, pictures = claims["scenes"], claims["pictures"]
    clips = {"actions": len(ACTIONS) * pictures, "image_scale": pictures, "prior": min(scenes, PRIOR_SCENES)}
    return f"Means over {clips.get(name, scenes)} clips for each row"


def _under_each_prompt(films: list[Films]) -> list[Films]:
    """Clips of one picture, each under its prompt, side by side."""
    return [Films("One picture under each prompt", [Film(group.films[0].file, group.caption) for group in films])]
