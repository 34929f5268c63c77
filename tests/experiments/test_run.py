"""The runner of `firstframe measure` on a small random model: what is compared, written, kept and continued."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from firstframe import __version__
from firstframe.bindings.diffusers import SamplingSettings
from firstframe.clips.video import read_clip
from firstframe.experiments import catalogue, evaluator
from firstframe.experiments.experiment import Report, Setup
from firstframe.experiments.methods import make_clip
from firstframe.experiments.run import measure
from firstframe.tiny.model import TinyModel

SETTINGS = SamplingSettings(num_frames=4, steps=1, cfg=1.0)
ONE = Setup(1, 0, SETTINGS, images=1)
TINY = catalogue.comparison(retention=False)


def by_method(results: dict[str, Any], name: str) -> dict[str, dict[str, float]]:
    return {row["method"]: {key: row[key] for key in row if key != "method"} for row in results[name]["rows"]}


def test_comparison(small_model: TinyModel, tmp_path: Path) -> None:
    report = measure(TINY, small_model, Setup(2, 3, SETTINGS), tmp_path)
    assert report == json.loads((tmp_path / "report.json").read_text())
    assert (report["version"], report["scenes"], report["seed"]) == (__version__, 2, 3)
    assert report["settings"]["keep_probability"] == SETTINGS.keep_probability
    rows = by_method(report, "methods")
    assert all(
        set(rows[method]) == set(catalogue.QUALITY)
        for method in ("base", "clean_frame", "adapter", "unspoken", "contradicted")
    )
    assert set(rows["autoencoder"]) == {"ssim", "psnr", *catalogue.OBJECT} and report["methods"]["clips"] == 2
    assert rows["target"]["direction_accuracy"] == 1 and "ssim" not in rows["target"]
    # only these two start with the image, as well as the autoencoder can reproduce it
    base, clean, adapter = (rows[name]["first_frame_ssim"] for name in ("base", "clean_frame", "adapter"))
    assert base < clean - 0.05 and clean == adapter
    assert read_clip(tmp_path / "methods.gif").frames.shape == (4, 4 * 128, 2 * 128, 3)
    assert Image.open(tmp_path / "methods_frames.png").width > 4 * 128


def test_every_claim(claims_folder: Path) -> None:
    claims = json.loads((claims_folder / "claims.json").read_text())
    assert set(by_method(claims, "parts")) == {"base", "clean_frame", "adapter", "retention", "adapter+retention"}
    actions = claims["actions"]["rows"]
    guided = [(row["guidance"], row["image_scale"], row["text_scale"]) for row in actions]
    assert guided[:3] == [("single", 1, 1), ("dual", 1, 2), ("dual", 1, 4)] and guided[4] == ("single", 4, 4)
    assert len({row["ssim"] for row in actions}) == 5 and claims["actions"]["clips"] == 6
    assert len(claims["image_scale"]["rows"]) == 5 and len(claims["prior"]["rows"]) == 4
    assert all("direction_accuracy" in row and "contrast_drift" in row for row in actions)
    table = (claims_folder / "claims.md").read_text()
    assert table.count("## ") == 5 and "adapter+retention" in table
    sheets = [f"{name}{kind}" for name in ("parts", "actions", "other_look") for kind in ("", "_frames")]
    for name in ("image_scale", "prior", *sheets):
        assert Image.open(claims_folder / f"{name}.png").width > 400


def test_prior(small_model: TinyModel, tmp_path: Path) -> None:
    report = measure(catalogue.PRIOR_REPORT, small_model, Setup(1, 0, replace(SETTINGS, steps=2)), tmp_path)
    rows = report["prior"]["rows"]
    assert [row["t0"] for row in rows] == [1.0, 0.9, 0.8, 0.7, 0.6, *[1.0] * 5]
    assert [row["keep"] for row in rows] == [*[1.0] * 5, 0.9, 0.7, 0.5, 0.3, 0.1]
    assert [row["p"] for row in rows] == [*[0.0] * 5, 0.1, 0.3, 0.5, 0.7, 0.9]
    assert len({row["flow_score"] for row in rows}) >= 6  # t0 is rounded to whole steps
    lines = (tmp_path / "prior.md").read_text().splitlines()
    assert lines[2].startswith("| t0 | keep | p | speed of the object (of the true one) |")
    assert len(lines) >= 4 + len(rows) and lines[4].startswith(f"| 1.0 | 1.0 | 0.0 | {rows[0]['object_speed']:.2f} |")


def test_one_experiment_keeps_the_others(small_model: TinyModel, few_claims: Report, tmp_path: Path) -> None:
    before = measure(few_claims, small_model, ONE, tmp_path, ["prior"])
    after = measure(few_claims, small_model, ONE, tmp_path, ["image_scale"])
    assert after["prior"] == before["prior"] and "image_scale" not in before
    assert "The frame similarity prior" in (tmp_path / "report.html").read_text()


def test_a_clip_is_made_once(small_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    first = measure(TINY, small_model, ONE, tmp_path, tell=told.append)
    monkeypatch.setattr(evaluator, "make_clip", lambda *_: pytest.fail("made again"))
    assert measure(TINY, small_model, ONE, tmp_path, tell=told.append) == first
    assert "7 clips (methods), 0 of them kept" in told[0] and re.search(r"about \d\d:\d\d ", told[1])
    assert "7 clips (methods), 5 of them kept" in told[2] and "about 00:00" in told[3]
    with pytest.raises(pytest.fail.Exception):
        measure(TINY, small_model, replace(ONE, settings=replace(SETTINGS, seed=1)), tmp_path)


def test_other_seeds_give_other_numbers(small_model: TinyModel, tmp_path: Path) -> None:
    first, again = (measure(TINY, small_model, ONE, tmp_path / name)["methods"] for name in "ab")
    other = measure(TINY, small_model, replace(ONE, seed=1), tmp_path)["methods"]
    assert first == again and first["rows"] != other["rows"]


def test_an_interrupted_run_is_reported_and_continued(
    small_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the second scene of three: the report holds the first one, and the next call makes the rest."""
    made: list[str] = []

    def interrupted(model: TinyModel, method: str, *rest: Any) -> Any:
        made.append(method)
        if len(made) == 10:
            raise KeyboardInterrupt
        return make_clip(model, method, *rest)

    setup = Setup(3, 0, SETTINGS)
    told: list[str] = []
    monkeypatch.setattr(evaluator, "make_clip", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measure(TINY, small_model, setup, tmp_path, tell=told.append)
    partial = json.loads((tmp_path / "report.json").read_text())
    assert partial["methods"]["clips"] == 1
    assert "Means over 1 clips" in (tmp_path / "report.html").read_text() and "continues" in told[-1]
    one = measure(TINY, small_model, Setup(1, 0, SETTINGS), tmp_path / "one")
    assert partial["methods"]["rows"] == one["methods"]["rows"]
    made[:] = ["already interrupted"] * 8
    finished = measure(TINY, small_model, setup, tmp_path, tell=told.append)
    assert finished["methods"]["clips"] == 3 and "7 of them kept" in told[-2]
    rest = ["adapter", "autoencoder", "target", "base", "clean_frame", "adapter", "autoencoder", "target"]
    assert sorted(made[8:]) == sorted(rest)
