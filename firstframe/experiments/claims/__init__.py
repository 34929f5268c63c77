"""``firstframe measure claims``: what the two papers claim, measured on rendered scenes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ... import __version__
from ...bindings.diffusers import SamplingSettings
from ...tiny.model import TinyModel
from ...tiny.style import with_look
from ..figures import side_by_side
from ..films import Shown, keep_films
from ..made_with import made_with
from ..page.render import write_page
from ..picture import draw_report
from ..scenes import action_clips, held_out_clips
from . import sections, sheets
from .numbers import Measurer
from .page import claims_page
from .plots import PANELS
from .tables import as_markdown


def measure_claims(
    model: TinyModel,
    scenes: int,
    pictures: int,
    seed: int,
    settings: SamplingSettings,
    folder: Path,
    only: Sequence[str],
) -> dict[str, Any]:
    """Measure every section of :mod:`.sections`; writes claims.json, claims.md, report.html and
    plots into a folder.

    Args:
        scenes: how many scenes for the parts, the prior's grid and the other look.
        pictures: how many pictures, each under six prompts.
        only: names of sections. Of the others, what the folder's claims.json says stays.

    The numbers of single clips are kept in ``folder/clips``, so that a run that was cut off goes on from there.
    Returns what is in claims.json.
    """
    num_frames = settings.num_frames
    truths = list(held_out_clips(scenes, seed, num_frames))
    at_dusk = list(held_out_clips(scenes, seed, num_frames, "dusk"))
    actions = list(action_clips(pictures, seed, num_frames))
    measurer, elsewhere = (Measurer(one, folder / "clips") for one in (model, with_look(model)))
    measured: dict[str, Callable[[], Any]] = {
        "parts": lambda: sections.parts(measurer, truths, settings),
        "actions": lambda: sections.many_actions(measurer, actions, settings),
        "image_scale": lambda: sections.image_scales(measurer, actions, settings),
        "prior": lambda: sections.prior_grid(measurer, truths, settings),
        "other_look": lambda: sections.other_look(elsewhere, at_dusk, settings),
    }
    shown: dict[str, Callable[[], Shown]] = {
        "parts": lambda: sheets.show_variants(model, sections.PARTS, truths, settings),
        "actions": lambda: sheets.show_actions(model, actions[0], settings),
        "other_look": lambda: sheets.show_variants(elsewhere.model, sections.LOOK_VARIANTS, at_dusk, settings),
    }
    file = folder / "claims.json"
    claims = json.loads(file.read_text("utf-8")) if file.exists() else {}
    claims |= {"version": __version__, "made_with": made_with(), "scenes": scenes, "pictures": pictures, "seed": seed}
    claims["settings"] = asdict(settings)
    for name in only:
        claims[name] = measured[name]()
        file.write_text(json.dumps(claims, indent=2) + "\n", "utf-8")
        if name in PANELS:
            title, panels = PANELS[name]
            side_by_side(title, panels(claims[name])).savefig(folder / f"{name}.png", dpi=110)
        if name in shown:
            clips = shown[name]()
            draw_report(clips).save(folder / f"{name}_frames.png")
            keep_films(folder / "films" / name, clips)
    (folder / "claims.md").write_text(as_markdown(claims), "utf-8")
    write_page(folder / "report.html", claims_page(claims, folder))
    return claims
