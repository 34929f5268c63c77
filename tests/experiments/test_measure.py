from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image

from firstframe import __version__
from firstframe.bindings.diffusers import SamplingSettings
from firstframe.clips.video import read_clip
from firstframe.experiments.prior import TABLE, as_table, measure_prior
from firstframe.experiments.scenes import held_out_clips
from firstframe.experiments.tiny import measure_tiny
from firstframe.experiments.variants import VARIANTS, all_numbers, make_clip, round_trip
from firstframe.tiny.scenes import training_seed

SETTINGS = SamplingSettings(num_frames=4, steps=1, cfg=1.0)


def test_scenes_are_never_those_of_the_training():
    seeds = {clip.seed for seed in (0, 1) for clip in held_out_clips(3, seed, 2)}
    assert len(seeds) == 6 and not seeds & {training_seed(index) for index in range(100_000)}


def test_report(small_model, tmp_path):
    report = measure_tiny(small_model, 2, 3, SETTINGS, tmp_path)
    assert report == json.loads((tmp_path / "report.json").read_text())
    assert (report["version"], report["scenes"], report["seed"]) == (__version__, 2, 3)
    assert report["settings"]["keep_probability"] == SETTINGS.keep_probability
    assert set(report["variants"]) == {"base", "clean_frame", "adapter"}
    keys = {"ssim", "psnr", "first_frame_ssim", "direction_accuracy", "flow_score", "warping_error"}
    assert all(set(numbers) == keys for numbers in report["variants"].values())
    assert set(report["autoencoder"]) == {"ssim", "psnr"}
    assert report["truth"]["direction_accuracy"] == 1
    # only these two start with the picture, as well as the autoencoder can tell it
    base, clean, adapter = (report["variants"][name]["first_frame_ssim"] for name in VARIANTS)
    assert base < clean - 0.05 and clean == adapter
    moving = read_clip(tmp_path / "report.gif").frames
    assert moving.shape == (4, 4 * 128, 2 * 128, 3)
    sheet = Image.open(tmp_path / "report.png")
    assert sheet.size[0] > 4 * 128 and sheet.size[1] > 2 * 4 * 128


def test_the_same_seed_gives_the_same_numbers(small_model, tmp_path):
    first, again = (measure_tiny(small_model, 1, 0, SETTINGS, tmp_path / name) for name in "ab")
    assert first == again
    assert first["variants"] != measure_tiny(small_model, 1, 1, SETTINGS, tmp_path)["variants"]


def test_variants_differ_as_they_say(small_model):
    (truth,) = held_out_clips(1, 0, 4)
    clips = {variant: make_clip(small_model, variant, truth, SETTINGS) for variant in VARIANTS}
    held = round_trip(small_model, truth)[0]
    assert torch.allclose(clips["clean_frame"][0], held, atol=1e-5)
    assert torch.allclose(clips["adapter"][0], held, atol=1e-5)
    assert not torch.allclose(clips["base"][0], held, atol=0.1)
    assert not torch.allclose(clips["adapter"][1:], clips["clean_frame"][1:], atol=1e-3)


def test_the_truth_gets_full_marks():
    (truth,) = held_out_clips(1, 0, 4)
    numbers = all_numbers(truth.frames, truth)
    assert numbers["ssim"] == pytest.approx(1) and numbers["first_frame_ssim"] == pytest.approx(1)
    assert numbers["psnr"] == pytest.approx(100) and numbers["direction_accuracy"] == 1


def test_prior_grid(small_model, tmp_path):
    report = measure_prior(small_model, 1, 0, replace(SETTINGS, steps=2), tmp_path)
    assert [(row["t0"], row["p"]) for row in report["rows"]] == TABLE
    flow = {(row["t0"], row["p"]): row["flow_score"] for row in report["rows"]}
    assert len(set(flow.values())) >= 6 and flow[1.0, 1.0] != flow[0.6, 1.0]  # t0 is rounded to whole steps
    assert report == json.loads((tmp_path / "prior.json").read_text())
    table = (tmp_path / "prior.md").read_text()
    assert table == as_table(report["rows"]) and table.count("\n") == 2 + len(TABLE)
