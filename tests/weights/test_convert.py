"""Pickles to safetensors, and one part out of a file that holds several."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from safetensors.torch import save_file
from torch import Tensor

from firstframe.errors import WeightsError
from firstframe.modules.i2v_adapter import I2VAdapter
from firstframe.sites import Site
from firstframe.tiny.files import weights_file
from firstframe.weights import IMAGE_TOKENS, MOTION_MODULE, load, load_metadata, load_state_dict
from firstframe.weights.convert import to_own_layout, to_published_layout, to_safetensors, to_unet
from firstframe.weights.keymaps import UNOFFICIAL_ADAPTER, to_theirs
from firstframe.weights.unet_names import unet_tensors


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
    converted, pickled = (load(MOTION_MODULE, tmp_path / f"mm.{ending}") for ending in ("safetensors", "ckpt"))
    assert same(converted.state_dict(), pickled.state_dict())


def test_a_file_of_several_parts_is_split(tmp_path: Path, oracle_dir: Path) -> None:
    several = {**official(oracle_dir, "base"), **official(oracle_dir, "motion"), **official(oracle_dir, "ip")}
    torch.save(several, tmp_path / "all.pth")
    for kind in (MOTION_MODULE, IMAGE_TOKENS):
        own = tmp_path / f"{kind.name}.safetensors"
        to_own_layout(tmp_path / "all.pth", own, kind.name)
        assert same(load(kind, own).state_dict(), load(kind, tmp_path / "all.pth").state_dict())
    with pytest.raises(WeightsError, match="I2V adapter was expected"):
        to_own_layout(tmp_path / "all.pth", tmp_path / "adapter.safetensors", "i2v_adapter")


@pytest.mark.parametrize("kind", ["motion_module", "image_tokens", "i2v_adapter"])
def test_there_and_back(tmp_path: Path, oracle_dir: Path, kind: str) -> None:
    """From the published layout to our own and back: the same names and numbers."""
    name = {"motion_module": "motion", "image_tokens": "ip", "i2v_adapter": "i2v_module"}[kind]
    (source,) = oracle_dir.glob(f"{name}.*")
    own, back = tmp_path / "own.safetensors", tmp_path / "back.safetensors"
    to_own_layout(source, own, kind)
    to_published_layout(own, back, kind)
    assert same(load_state_dict(back), load_state_dict(source))


def test_the_unofficial_layout_there_and_back(tmp_path: Path) -> None:
    adapter = I2VAdapter({Site("down", 0, 0): 16, Site("mid", 0, 0): 32}, 4, own_projections=True)
    state = to_theirs(adapter.state_dict(), UNOFFICIAL_ADAPTER)
    save_file(state, tmp_path / "in.safetensors")
    to_own_layout(tmp_path / "in.safetensors", tmp_path / "own.safetensors", "i2v_adapter")
    to_published_layout(tmp_path / "own.safetensors", tmp_path / "back.safetensors", "i2v_adapter")
    assert same(load_state_dict(tmp_path / "back.safetensors"), state)


def test_a_branch_has_no_other_names(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="retention"):
        to_published_layout(weights_file("retention"), tmp_path / "x.safetensors", "retention")


def test_the_unet_out_of_a_file_of_several(tmp_path: Path, oracle_dir: Path) -> None:
    """To the host's names and back; what is no UNet stays behind."""
    base = official(oracle_dir, "base")
    several = {**base, **official(oracle_dir, "motion"), **official(oracle_dir, "ip")}
    torch.save(several, tmp_path / "all.pth")
    to_unet(tmp_path / "all.pth", tmp_path / "host.safetensors", "host")
    as_patcher = load_state_dict(tmp_path / "host.safetensors")
    assert len(as_patcher) == len(base)
    assert all(name.startswith("model.diffusion_model.") for name in as_patcher)
    to_unet(tmp_path / "host.safetensors", tmp_path / "back.safetensors", "diffusers")
    assert same(load_state_dict(tmp_path / "back.safetensors"), base)
    to_unet(tmp_path / "all.pth", tmp_path / "alone.safetensors", "diffusers")
    assert same(load_state_dict(tmp_path / "alone.safetensors"), base)


def test_names_in_the_host_are_those_that_diffusers_reads(oracle_dir: Path) -> None:
    base = official(oracle_dir, "base")
    config = {"down_block_types": [0] * 4, "up_block_types": [0] * 4, "layers_per_block": 2}
    read = convert_ldm_unet_checkpoint(dict(unet_tensors(base, "host")), config)
    assert same(read, base)


def test_no_unet(tmp_path: Path, oracle_dir: Path) -> None:
    (motion,) = oracle_dir.glob("motion.*")
    with pytest.raises(WeightsError, match=r"motion\..*no UNet.*conv_in"):
        to_unet(motion, tmp_path / "x.safetensors", "host")


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
