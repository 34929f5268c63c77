"""`firstframe measure prior`: what t0 and p of the frame similarity prior do (arXiv 2312.16693, Table 2)."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from .. import __version__
from ..bindings.diffusers import SamplingSettings
from ..clips.metrics import flow_score, warping_error
from ..tiny.model import TinyModel
from .films import keep_films
from .made_with import made_with
from .page.render import write_page
from .pages import prior_page
from .scenes import held_out_clips
from .variants import make_clip, mean_of

# (t0, p) in the order of the paper's table
TABLE = [*((t0, 1.0) for t0 in (1.0, 0.9, 0.8, 0.7, 0.6)), *((1.0, p) for p in (0.9, 0.7, 0.5, 0.3, 0.1))]


def measure_prior(model: TinyModel, count: int, seed: int, settings: SamplingSettings, folder: Path) -> dict[str, Any]:
    """Flow score and warping error of the adapter's clips over TABLE; writes prior.json, prior.md, report.html.

    Every number is a mean over the same `count` scenes. Returns what is in prior.json.
    """
    clips = list(held_out_clips(count, seed, settings.num_frames))
    rows, shown = [], {"truth": clips[0].frames}
    with tqdm(total=count * len(TABLE), desc="clips") as bar:
        for start_time, keep_probability in TABLE:
            knobs = replace(settings, start_time=start_time, keep_probability=keep_probability)
            numbers = []
            for truth in clips:
                frames = make_clip(model, "adapter", truth, knobs)
                if truth is clips[0]:
                    shown[f"t0 {start_time:g}, p {keep_probability:g}"] = frames
                numbers.append({"flow_score": flow_score(frames), "warping_error": warping_error(frames)})
                bar.update()
            rows.append({"t0": start_time, "p": keep_probability, **mean_of(numbers)})
    report = {
        "version": __version__,
        "made_with": made_with(),
        "scenes": count,
        "seed": seed,
        "settings": asdict(settings),
        "rows": rows,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prior.json").write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    (folder / "prior.md").write_text(as_table(rows), "utf-8")
    keep_films(folder / "films", [(clips[0].scene.caption, shown)])
    write_page(folder / "report.html", prior_page(report, folder))
    return report


def as_table(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines = ["| t0 | p | flow score (px/frame) | warping error |", "|---|---|---|---|"]
    lines += [f"| {r['t0']} | {r['p']} | {r['flow_score']:.3f} | {r['warping_error']:.2f} |" for r in rows]
    return "\n".join(lines) + "\n"
