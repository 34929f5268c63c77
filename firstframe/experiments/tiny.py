"""`firstframe measure tiny`: report.json, report.html, and pictures and clips to look at."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm.auto import tqdm

from .. import __version__
from ..bindings.diffusers import SamplingSettings
from ..clips.video import write_clip
from ..tiny.model import TinyModel
from .films import keep_films
from .made_with import made_with
from .page.render import write_page
from .pages import tiny_page
from .picture import animate_report, draw_report
from .scenes import held_out_clips
from .variants import VARIANTS, all_numbers, likeness, make_clip, mean_of, movement, round_trip

SHOWN = 4  # scenes in report.html, report.png and report.gif


def measure_tiny(
    model: TinyModel,
    count: int,
    seed: int,
    settings: SamplingSettings,
    folder: Path,
    variants: tuple[str, ...] = VARIANTS,
) -> dict[str, Any]:
    """Measure variants on `count` scenes; writes report.json, report.html and what it shows into a folder.

    Every number is a mean over scenes. `autoencoder` is the round trip of the true frames, the ceiling for
    `ssim` and `psnr`; `truth` has the movement of the true frames, where direction_accuracy tells how far the
    measurement itself can be trusted. Returns what is in report.json.
    """
    rows: dict[str, list[dict[str, float]]] = defaultdict(list)
    shown: list[tuple[str, dict[str, Tensor]]] = []
    with tqdm(total=count * len(variants), desc="clips") as bar:
        for truth in held_out_clips(count, seed, settings.num_frames):
            rows["truth"].append(movement(truth.frames, truth))
            rows["autoencoder"].append(likeness(round_trip(model, truth), truth))
            clips = {"truth": truth.frames}
            for variant in variants:
                clips[variant] = make_clip(model, variant, truth, settings)
                rows[variant].append(all_numbers(clips[variant], truth))
                bar.update()
            if len(shown) < SHOWN:
                shown.append((truth.scene.caption, clips))
    report = {
        "version": __version__,
        "made_with": made_with(),
        "scenes": count,
        "seed": seed,
        "settings": asdict(settings),
        "variants": {variant: mean_of(rows[variant]) for variant in variants},
        "autoencoder": mean_of(rows["autoencoder"]),
        "truth": mean_of(rows["truth"]),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    draw_report(shown).save(folder / "report.png")
    write_clip(folder / "report.gif", animate_report(shown))
    keep_films(folder / "films", shown)
    write_page(folder / "report.html", tiny_page(report, folder))
    return report
