"""The synthetic weight files are what the published ones are, as far as that can be known without them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from torch import Tensor

from firstframe.errors import WeightsError
from firstframe.weights import detect_layout
from firstframe.weights.hub.manifest import weight_set

sys.path.insert(0, str(Path(__file__).parent))
import synthetic
from synthetic import RECIPES, filled, shapes

TYPES = {torch.float16: "F16", torch.float32: "F32", torch.int64: "I64", torch.int32: "I32"}


def counts(tensors: dict[str, Tensor]) -> tuple[int, int, int]:
    """Tensors, parameters and numbers of positional encodings."""
    encodings = (".pe", ".positional_encoding")
    positions = sum(tensor.numel() for name, tensor in tensors.items() if name.endswith(encodings))
    return len(tensors), sum(tensor.numel() for tensor in tensors.values()) - positions, positions


@pytest.mark.parametrize(
    ("id", "tensors", "parameters", "positions"),
    [
        ("animatediff-v1", 560, 417.14, 0.84),
        ("animatediff-v2", 588, 453.21, 1.21),
        ("animatediff-v3", 560, 417.14, 1.13),
        ("animatelcm", 546, 453.21, 0.0),
        ("animatediff-lightning", 588, 453.21, 1.21),
        ("animatediff-sdxl", 420, 236.78, 0.72),
        ("hotshot-xl", 420, 236.78, 0.54),
    ],
)
def test_motion_modules_have_the_published_counts(id: str, tensors: int, parameters: float, positions: float) -> None:
    found = counts(shapes(id))
    assert (found[0], round(found[1] / 1e6, 2), round(found[2] / 1e6, 2)) == (tensors, parameters, positions)


def test_the_other_parts_have_the_published_counts() -> None:
    assert counts(shapes("i2v-adapter"))[:2] == (48, 24_793_280)
    assert counts(shapes("i2v-adapter", mid=False))[:2] == (45, 21_515_200)
    assert len(shapes("motion-lora-zoom-in")) == 336
    assert len(shapes("i2v-adapter-base")) == 686 + 560 + 32
    assert counts(shapes("sd15"))[0] == 1145
    assert counts(shapes("sdxl-base"))[:2] == (2515, 3_468_837_945)
    assert len(shapes("ip-adapter-plus-sdxl")) == 51 + 140


@pytest.mark.parametrize("id", [id for id in RECIPES if weight_set(id).bytes])
def test_files_come_out_as_large_as_published(id: str) -> None:
    numbers = sum(tensor.nbytes for tensor in shapes(id).values())
    assert numbers == pytest.approx(weight_set(id).bytes, rel=1e-3)


@pytest.mark.parametrize(
    ("id", "aligned"),
    [
        ("sd15", False),
        ("ip-adapter-plus", True),
        ("ip-adapter-plus-sdxl", True),
        ("clip-vision-vit-h", True),
        ("animatediff-lightning", True),
    ],
)
def test_names_shapes_and_types_give_the_published_size_to_the_byte(id: str, aligned: bool) -> None:
    """Every name and shape is in a safetensors header. Those of 2022 were sorted by name alone and not padded."""
    tensors, metadata = shapes(id), RECIPES[id].metadata
    order = sorted(tensors, key=lambda name: (aligned and -tensors[name].itemsize, name))
    header, end = {"__metadata__": metadata} if metadata else {}, 0
    for name in order:
        begin, end = end, end + tensors[name].nbytes
        dtype, shape = TYPES[tensors[name].dtype], list(tensors[name].shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    size = len(json.dumps(header, separators=(",", ":")))
    assert 8 + size + (-size % 8 if aligned else 0) + end == weight_set(id).bytes


@pytest.mark.parametrize(("id", "config"), [("sd15", synthetic.UNET), ("sdxl-base", synthetic.SDXL_UNET)])
def test_diffusers_reads_the_checkpoint_as_its_own_models(id: str, config: dict[str, Any]) -> None:
    state = shapes(id)
    with torch.device("meta"):
        unet, autoencoder = UNet2DConditionModel(**config), AutoencoderKL(**synthetic.AUTOENCODER)
    for model, convert in ((unet, convert_ldm_unet_checkpoint), (autoencoder, convert_ldm_vae_checkpoint)):
        found, wanted = convert(dict(state), model.config), model.state_dict()
        assert {name: tensor.squeeze().shape for name, tensor in found.items()} == {
            name: tensor.squeeze().shape for name, tensor in wanted.items()
        }


def test_our_loaders_tell_the_files_apart() -> None:
    """Each file has the kinds that the manifest says, and the official UNet file has two."""
    for id in RECIPES:
        names, layout = list(shapes(id)), weight_set(id).layout
        kinds = ("i2v_adapter", "motion_module", "motion_lora", "image_tokens")
        found = {detected.name for kind in kinds if (detected := _detected(names, kind))}
        assert layout is None or layout in found
    assert _detected(shapes("i2v-adapter-base"), "image_tokens").name == "official image tokens"


def _detected(names, kind):
    try:
        return detect_layout(names, kind)
    except WeightsError:
        return None


def test_numbers_are_seeded_and_of_the_right_size() -> None:
    wanted = {
        "norm.weight": torch.empty(8, device="meta"),
        "norm.bias": torch.empty(8, device="meta"),
        "to_q.weight": torch.empty(1500, 900, device="meta", dtype=torch.float16),
        "pos_encoder.pe": torch.empty(1, 24, 320, device="meta"),
        "position_ids": torch.empty(1, 77, device="meta", dtype=torch.int64),
    }
    found = filled(wanted, 1)
    assert {name: (tensor.shape, tensor.dtype) for name, tensor in found.items()} == {
        name: (tensor.shape, tensor.dtype) for name, tensor in wanted.items()
    }
    assert found["norm.weight"].eq(1).all() and found["norm.bias"].eq(0).all()
    assert found["to_q.weight"].float().std().item() == pytest.approx(1 / 30, rel=0.01)
    assert found["pos_encoder.pe"][0, 0, 1::2].eq(1).all()
    assert found["position_ids"][0, -1] == 76
    assert torch.equal(filled(wanted, 1)["to_q.weight"], found["to_q.weight"])
    assert not torch.equal(filled(wanted, 2)["to_q.weight"], found["to_q.weight"])


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = synthetic.Recipe(lambda: {"a.weight": torch.empty(2, 2)}, wrapped=True)
    monkeypatch.setitem(RECIPES, "animatediff-v3", small)
    path = synthetic.write("animatediff-v3", tmp_path)
    assert path.name == "v3_sd15_mm.ckpt"
    assert torch.load(path, weights_only=True)["state_dict"]["module.a.weight"].shape == (2, 2)
    monkeypatch.setattr(torch, "save", lambda content, file: Path(file).write_bytes(b"half") and 1 / 0)
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError):
        synthetic.write("animatediff-v3", tmp_path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
