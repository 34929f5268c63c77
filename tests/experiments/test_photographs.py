"""Photographs under each camera word."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from firstframe.bindings.diffusers import SamplingSettings
from firstframe.errors import FirstFrameError
from firstframe.experiments.photographs import NUMBERS, measure_photographs
from firstframe.tiny.model import TinyModel
from firstframe.tiny.scenes import CAMERAS

SETTINGS = SamplingSettings(num_frames=16, steps=1, cfg=1.0)


def test_each_photograph_under_each_word(small_model: TinyModel, tmp_path: Path) -> None:
    folder, out = tmp_path / "photographs", tmp_path / "out"
    (folder / "deeper").mkdir(parents=True)
    y, x = np.mgrid[:90, :160]
    Image.fromarray(np.dstack([y * 2, x, 60 + 0 * x]).astype(np.uint8)).save(folder / "deeper" / "slope.jpg")
    (folder / "notes.txt").write_text("not an image")
    results = measure_photographs(small_model, folder, out, SETTINGS)
    assert results == json.loads((out / "report.json").read_text())
    assert results["photographs"] == ["slope.jpg"] and list(results["cameras"]) == list(CAMERAS)
    assert all(set(numbers) == set(NUMBERS) for numbers in (results["overall"], *results["cameras"].values()))
    assert results["overall"]["frame0_psnr"] == 100  # frame 0 is the image itself
    assert results["overall"]["ssim"] == pytest.approx(
        np.mean([numbers["ssim"] for numbers in results["cameras"].values()]), abs=1e-3
    )
    assert Image.open(out / "000_slope.png").size[1] > 12 * 128


def test_a_folder_without_images(small_model: TinyModel, tmp_path: Path) -> None:
    with pytest.raises(FirstFrameError, match="has no image"):
        measure_photographs(small_model, tmp_path, tmp_path / "out", SETTINGS)
