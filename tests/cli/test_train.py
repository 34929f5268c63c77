"""The command of a training: what it says, and that it leaves a file."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from firstframe.cli.app import app
from firstframe.weights import I2V_ADAPTER, load

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
from material import write_clips, write_models

CONFIG = """
[model]
checkpoint = "checkpoint.safetensors"
motion_module = "motion.ckpt"
[data]
held_out = 0.0
[[datasets]]
video_directory = "clips"
resolution = [64, 64]
target_frames = [4]
[train]
output_dir = "run"
output_name = "mine"
max_train_steps = 2
log_with = "none"
[samples]
every_n_steps = 0
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    write_models(tmp_path)
    write_clips(tmp_path / "clips", 2)
    (tmp_path / "clips" / "silent.mp4").write_bytes((tmp_path / "clips" / "clip_0.mp4").read_bytes())
    file = tmp_path / "config.toml"
    file.write_text(CONFIG)
    return file


def said(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["train", *arguments, *([] if "--dry-run" in arguments else ["--device", "cpu"])])
    assert result.exit_code == code, result.output
    return result.output


def test_check_names_draws_and_measures(config: Path) -> None:
    told = said("check", str(config), "--dry-run")
    assert "2 clips, 2 samples" in told and "silent.mp4: it has no caption" in told and "GB" not in told
    assert (config.parent / "run" / "clips.png").exists()
    told = said("check", str(config), "--what", "retention")
    assert "million weights are trained" in told and "GB of memory" in told
    assert "--what is adapter, retention or content, got 'x'" in said("check", str(config), "--what", "x", code=1)


def test_a_dry_run_trains_nothing_and_a_run_leaves_a_file(config: Path) -> None:
    assert "h for 2 steps" in said("adapter", str(config), "--dry-run")
    run = config.parent / "run"
    assert not (run / "mine.safetensors").exists()
    assert str(run / "mine.safetensors") in said("adapter", str(config))
    assert next(load(I2V_ADAPTER, run / "mine.safetensors").parameters()).isfinite().all()
    assert (run / "config.toml").read_text() == CONFIG
    assert "go on with --resume" in said("adapter", str(config), code=1)
