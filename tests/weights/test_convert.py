"""Pickles to safetensors, and one part out of a file that holds several."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from firstframe.errors import WeightsError
from firstframe.weights import load_image_tokens, load_metadata, load_motion, load_state_dict
from firstframe.weights.convert import to_own_layout, to_safetensors


def official(oracle_dir: Path, name: str) -> dict[str, Tensor]:
    (file,) = oracle_dir.glob(f"{name}.*")
    return load_state_dict(file)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_pickle_keeps_its_names_and_types(tmp_path: Path, oracle_dir: Path) -> None:
    state = {name: tensor.half() for name, tensor in official(oracle_dir, "motion").items()}
    torch.save({"state_dict": state}, tmp_path / "mm.ckpt")
    to_safetensors(tmp_path / "mm.ckpt", tmp_path / "mm.safetensors")
    assert same(load_state_dict(tmp_path / "mm.safetensors"), state)
    assert load_metadata(tmp_path / "mm.safetensors")["firstframe.converted_from"] == "mm.ckpt"
    assert same(load_motion(tmp_path / "mm.safetensors").state_dict(), load_motion(tmp_path / "mm.ckpt").state_dict())


def test_a_file_of_several_parts_is_split(tmp_path: Path, oracle_dir: Path) -> None:
    several = {**official(oracle_dir, "base"), **official(oracle_dir, "motion"), **official(oracle_dir, "ip")}
    torch.save(several, tmp_path / "all.pth")
    for kind, load in (("motion_module", load_motion), ("image_tokens", load_image_tokens)):
        to_own_layout(tmp_path / "all.pth", tmp_path / f"{kind}.safetensors", kind)
        assert same(load(tmp_path / f"{kind}.safetensors").state_dict(), load(tmp_path / "all.pth").state_dict())
    with pytest.raises(WeightsError, match="I2V adapter was expected"):
        to_own_layout(tmp_path / "all.pth", tmp_path / "adapter.safetensors", "i2v_adapter")


@pytest.mark.parametrize("target", ["out.ckpt", "nowhere/out.safetensors"])
def test_targets_that_are_refused(tmp_path: Path, target: str) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "in.safetensors")
    with pytest.raises(WeightsError, match=target.split("/")[0]):
        to_safetensors(tmp_path / "in.safetensors", tmp_path / target)


def test_what_cannot_be_read_leaves_the_target(tmp_path: Path) -> None:
    (tmp_path / "in.ckpt").write_bytes(b"not a pickle")
    (tmp_path / "out.safetensors").write_bytes(b"mine")
    with pytest.raises(WeightsError, match=r"in\.ckpt"):
        to_safetensors(tmp_path / "in.ckpt", tmp_path / "out.safetensors")
    assert (tmp_path / "out.safetensors").read_bytes() == b"mine"
