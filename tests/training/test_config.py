"""The TOML file: what is read, and what is refused and how."""

from __future__ import annotations

from pathlib import Path

import pytest

from firstframe.errors import FirstFrameError
from firstframe.training.config import read_config

WHOLE = """
[model]
checkpoint = "sd15.safetensors"
motion_module = "mm.ckpt"
loras = [{ path = "/abs/a.safetensors", strength = 0.5 }]
[data]
resolution = [512, 320]
caption_extension = ".caption"
[[datasets]]
video_directory = "clips"
[[datasets]]
video_jsonl_file = "more.jsonl"
resolution = [256, 256]
[train]
output_dir = "run"
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "config.toml"
    file.write_text(text)
    return file


def test_paths_are_relative_to_the_file_and_data_has_the_defaults(tmp_path: Path) -> None:
    config = read_config(written(tmp_path, WHOLE))
    assert config.model.checkpoint == tmp_path / "sd15.safetensors"
    assert config.model.loras[0].path == Path("/abs/a.safetensors") and config.model.loras[0].strength == 0.5
    assert config.train.output_dir == tmp_path / "run" and config.data.cache_directory == tmp_path / "cache"
    first, second = config.datasets
    assert first.video_directory == tmp_path / "clips" and first.resolution == (512, 320)
    assert second.resolution == (256, 256) and second.caption_extension == ".caption"


def test_the_defaults_are_the_papers(tmp_path: Path) -> None:
    config = read_config(written(tmp_path, WHOLE))
    assert config.train.learning_rate == 1e-4 and config.train.lr_scheduler == "constant"
    assert config.train.loss_type == "l2" and config.train.weighting_scheme == "none"
    assert config.train.noise_offset == config.train.prior_share == 0
    assert config.datasets[0].target_frames == (16,)


def test_the_tiny_model_needs_no_motion_module(tmp_path: Path) -> None:
    text = '[model]\ncheckpoint = "tiny"\n[[datasets]]\nvideo_directory = "c"\n[train]\noutput_dir = "r"\n'
    assert str(read_config(written(tmp_path, text)).model.checkpoint) == "tiny"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('motion_module = "mm.ckpt"', "", "motion_module is missing"),
        ('output_dir = "run"', 'output_dir = "run"\nlearning_rat = 1', r"train\.learning_rat: there is no such key"),
        ('output_dir = "run"', "", r"train\.output_dir: Field required"),
        ("[512, 320]", "[500, 320]", r"datasets\.0: resolution must be multiples of 64, got \(500, 320\)"),
        ('video_directory = "clips"', "", "give one of video_directory"),
        ('output_dir = "run"', 'output_dir = "run"\ndrop_text = 0.6\ndrop_image = 0.6', "add up to more than 1"),
        ('output_dir = "run"', 'output_dir = "run"\nloss_type = "l3"', r"train\.loss_type.*got 'l3'"),
        ("[model]", "[model", "this is no TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in WHOLE
    file = written(tmp_path, WHOLE.replace(old, new, 1))
    with pytest.raises(FirstFrameError, match=message) as raised:
        read_config(file)
    assert str(file) in str(raised.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FirstFrameError, match="cannot read"):
        read_config(tmp_path / "none.toml")
