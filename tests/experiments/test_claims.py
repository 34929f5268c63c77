"""`firstframe measure claims` on a small random model: what is compared, written and remembered."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from firstframe.bindings.diffusers import SamplingSettings
from firstframe.cli.measure import SECTIONS
from firstframe.clips.metrics import brightness_drift, contrast_drift
from firstframe.experiments.claims import measure_claims, sections
from firstframe.experiments.claims.numbers import Measurer
from firstframe.experiments.scenes import ACTIONS, action_clips, held_out_clips
from firstframe.tiny.model import TinyModel

SETTINGS = SamplingSettings(num_frames=4, steps=1, cfg=1.0)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer settings of each kind, and no other base."""
    monkeypatch.setattr(sections, "ACTION_SCALES", ((1.0, 1.0), (1.0, 4.0), (4.0, 4.0)))
    monkeypatch.setattr(sections, "IMAGE_SCALES", (1.0, 4.0))
    monkeypatch.setattr(sections, "START_TIMES", (1.0,))
    monkeypatch.setattr(sections, "KEEP_PROBABILITIES", (0.9, 0.1))
    monkeypatch.setattr("firstframe.experiments.claims.with_look", lambda model: model)


def test_every_section(small_model: TinyModel, few: None, tmp_path: Path) -> None:
    claims = measure_claims(small_model, 1, 1, 0, SETTINGS, tmp_path, SECTIONS)
    assert claims == json.loads((tmp_path / "claims.json").read_text())
    assert set(claims["parts"]) == {"base", "clean_frame", "adapter", "retention", "adapter+retention"}
    guided = {(row["guidance"], row["image_scale"], row["text_scale"]) for row in claims["actions"]}
    assert guided == {("single", 1, 1), ("dual", 1, 4), ("single", 4, 4)}
    assert len(claims["image_scale"]) == 4 and len(claims["prior"]) == 2
    assert all("direction_accuracy" in row and "contrast_drift" in row for row in claims["actions"])
    table = (tmp_path / "claims.md").read_text()
    assert table.count("##") == 5 and "adapter+retention" in table
    for name in ("actions", "image_scale", "prior", "parts_frames", "actions_frames", "other_look_frames"):
        assert Image.open(tmp_path / f"{name}.png").width > 400


def test_a_clip_is_measured_once(small_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truths = list(held_out_clips(1, 0, 4))
    first = Measurer(small_model, tmp_path).mean("adapter", truths, SETTINGS)
    monkeypatch.setattr("firstframe.experiments.claims.numbers.make_clip", lambda *_: pytest.fail("made again"))
    assert Measurer(small_model, tmp_path).mean("adapter", truths, SETTINGS) == first
    with pytest.raises(pytest.fail.Exception):
        Measurer(small_model, tmp_path).mean("adapter", truths, replace(SETTINGS, seed=1))


def test_one_section_keeps_the_others(small_model: TinyModel, few: None, tmp_path: Path) -> None:
    before = measure_claims(small_model, 1, 1, 0, SETTINGS, tmp_path, ["prior"])
    after = measure_claims(small_model, 1, 1, 0, SETTINGS, tmp_path, ["image_scale"])
    assert after["prior"] == before["prior"] and "image_scale" not in before


def test_actions_start_with_one_picture() -> None:
    (actions,) = action_clips(1, 0, 3)
    assert [(truth.scene.direction, truth.scene.speed) for truth in actions] == list(ACTIONS)
    assert all(torch.equal(truth.frames[0], actions[0].frames[0]) for truth in actions)
    assert all(not torch.equal(truth.frames[2], actions[0].frames[2]) for truth in actions[1:])


def test_drift_of_the_tone() -> None:
    truth = torch.rand(2, 16, 16, 3, generator=torch.Generator().manual_seed(0)) * 0.5
    assert brightness_drift(truth, truth) == 0 and contrast_drift(truth, truth) == 0
    assert brightness_drift(truth + 0.1, truth) == pytest.approx(25.5, abs=0.1)
    assert contrast_drift(truth * 1.5, truth) == pytest.approx(0.5, abs=1e-4)
