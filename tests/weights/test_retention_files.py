"""Files of the frame retention branch, alone and with the motion module that was trained with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from firstframe.errors import WeightsError
from firstframe.modules.motion import MotionConfig, MotionModule
from firstframe.modules.retention import RetentionBranch, RetentionConfig
from firstframe.sites import UNetConfig
from firstframe.weights import I2V_ADAPTER, MOTION_MODULE, RETENTION, load, load_metadata, save

MOTION = MotionConfig((32, 64), 1, True, 8, 4)
CONFIG = RetentionConfig(UNetConfig((32, 64), 1, (True, False), 4, 24), MOTION, stem_channels=(4, 4, 8, 8))


@pytest.fixture
def branch(generator: torch.Generator) -> RetentionBranch:
    branch = RetentionBranch(CONFIG)
    for parameter in branch.parameters():
        nn.init.normal_(parameter, generator=generator)
    return branch


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_saved_and_loaded(tmp_path: Path, branch: RetentionBranch) -> None:
    save(RETENTION, tmp_path / "x.safetensors", branch, {"steps": "7"}, torch.float32)
    again = load(RETENTION, tmp_path / "x.safetensors")
    assert again.config == CONFIG
    assert equal(again.state_dict(), branch.state_dict())
    assert load_metadata(tmp_path / "x.safetensors")["steps"] == "7"


def test_with_the_motion_module_that_was_trained_with_it(tmp_path: Path, branch: RetentionBranch) -> None:
    file, motion = tmp_path / "x.safetensors", MotionModule(MOTION)
    save(RETENTION, file, branch, dtype=torch.float32, motion=motion)
    assert equal(load(RETENTION, file).state_dict(), branch.state_dict())
    again = load(MOTION_MODULE, file)
    assert again.config == MOTION
    assert equal(again.state_dict(), motion.state_dict())


def test_other_kinds_are_told_apart(tmp_path: Path, branch: RetentionBranch) -> None:
    save(RETENTION, tmp_path / "retention.safetensors", branch)
    save(MOTION_MODULE, tmp_path / "motion.safetensors", MotionModule(MOTION))
    with pytest.raises(WeightsError, match="I2V adapter was expected, but this file holds FirstFrame retention branch"):
        load(I2V_ADAPTER, tmp_path / "retention.safetensors")
    with pytest.raises(WeightsError, match="motion module was expected, but this file holds FirstFrame retention"):
        load(MOTION_MODULE, tmp_path / "retention.safetensors")
    with pytest.raises(WeightsError, match="retention branch was expected, but this file holds FirstFrame motion"):
        load(RETENTION, tmp_path / "motion.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("stem.conv_in.weight"), r"stem\.conv_in\.weight is missing"),
        (lambda tensors: tensors.update({"stem.extra": torch.zeros(2)}), r"stem\.extra \(2,\) has no place"),
        (lambda tensors: tensors.update({"conv_in.bias": torch.zeros(3)}), r"conv_in\.bias has shape \(3,\)"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, branch: RetentionBranch, change, message: str) -> None:
    file = tmp_path / "x.safetensors"
    save(RETENTION, file, branch)
    tensors, metadata = load_file(file), load_metadata(file)
    change(tensors)
    save_file(tensors, file, metadata)
    with pytest.raises(WeightsError, match=message):
        load(RETENTION, file)


def test_without_its_configuration(tmp_path: Path, branch: RetentionBranch) -> None:
    save_file(branch.state_dict(), tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match=r"firstframe\.config is missing"):
        load(RETENTION, tmp_path / "x.safetensors")
