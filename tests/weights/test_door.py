"""Damaged and hostile files: each is refused with an error that says what is wrong and where."""

from __future__ import annotations

import json
import os
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from firstframe.errors import WeightsError
from firstframe.weights import load_metadata, load_state_dict, save_state_dict
from firstframe.weights.convert import to_safetensors
from firstframe.weights.door import is_finite, printable
from firstframe.weights.inspect import inspect


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.parametrize("name", ["x.safetensors", "x.ckpt"])
@pytest.mark.parametrize("read", [load_state_dict, load_metadata])
def test_a_pipe_does_not_block(tmp_path: Path, name: str, read) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(WeightsError, match=r"a folder or a device"):
        read(tmp_path / name)


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="a folder"):
        load_state_dict(tmp_path)


def test_metadata_of_a_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"not one")
    with pytest.raises(WeightsError, match=r"x\.safetensors: cannot be read"):
        load_metadata(tmp_path / "x.safetensors")


def safetensors_bytes(header: object, data: bytes = b"\0" * 16) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 32]}},
        {"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 16]}},
        {"a": {"dtype": "F32", "shape": [2**63, 2**63], "data_offsets": [0, 16]}},
        {"a": {"dtype": "F32", "shape": [0, 2**62, 2**62], "data_offsets": [0, 0]}},
        {"a": {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}},
        {"a": {"dtype": "F99", "shape": [4], "data_offsets": [0, 16]}},
        {"a": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}},
        {"a": []},
        ["a"],
    ],
)
def test_a_header_that_lies(tmp_path: Path, header: object) -> None:
    (tmp_path / "x.safetensors").write_bytes(safetensors_bytes(header))
    with pytest.raises(WeightsError, match=r"x\.safetensors: cannot be read"):
        load_state_dict(tmp_path / "x.safetensors")


def test_a_name_that_takes_hours_to_match(tmp_path: Path) -> None:
    name = ".motion_modules.0.temporal_transformer." * 30_000
    save_file({name: torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="no name of a tensor"):
        load_state_dict(tmp_path / "x.safetensors")


def test_more_tensors_than_any_model_has(tmp_path: Path) -> None:
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    (tmp_path / "x.safetensors").write_bytes(safetensors_bytes({str(n): entry for n in range(100_001)}, b""))
    with pytest.raises(WeightsError, match="holds 100001 tensors"):
        load_state_dict(tmp_path / "x.safetensors")


def test_a_small_pickle_of_a_large_tensor(tmp_path: Path) -> None:
    """A view that repeats one number: 1.5 kB asked for 11 GB."""
    torch.save({"a": torch.zeros(1).expand(1000, 3_000_000)}, tmp_path / "x.pt")
    assert (tmp_path / "x.pt").stat().st_size < 2_000
    for read in (load_state_dict, inspect, lambda path: to_safetensors(path, tmp_path / "out.safetensors")):
        with pytest.raises(WeightsError, match=r"12,000,000,000 bytes of memory.*largest is a \(1000, 3000000\)"):
            read(tmp_path / "x.pt")


def test_many_views_of_one_large_tensor(tmp_path: Path) -> None:
    whole = torch.zeros(100_000)
    torch.save({str(number): whole[number:] for number in range(50)}, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match="bytes of memory"):
        load_state_dict(tmp_path / "x.pt")


def test_an_archive_that_unpacks_to_more_than_itself(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1_000_000)}, tmp_path / "x.pt")
    with (
        zipfile.ZipFile(tmp_path / "x.pt") as whole,
        zipfile.ZipFile(tmp_path / "y.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for entry in whole.infolist():
            packed.writestr(entry.filename, whole.read(entry))
    with pytest.raises(WeightsError, match="bytes of memory"):
        load_state_dict(tmp_path / "y.pt")


def test_tied_weights_are_read_and_written(tmp_path: Path) -> None:
    tied = torch.arange(3_000.0)
    torch.save({"a": tied, "b": tied}, tmp_path / "x.pt")
    to_safetensors(tmp_path / "x.pt", tmp_path / "x.safetensors")
    found = load_state_dict(tmp_path / "x.safetensors")
    assert torch.equal(found["a"], tied) and torch.equal(found["b"], tied)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (torch.eye(3).to_sparse(), "sparse"),
        (torch.eye(3).to_sparse_csr(), "sparse"),
        (torch.empty(3, 3, device="meta"), "meta"),
        (torch.quantize_per_tensor(torch.eye(3), 0.1, 0, torch.qint8), "quantised"),
    ],
)
def test_tensors_that_are_not_plain(tmp_path: Path, tensor: Tensor, said: str) -> None:
    torch.save({"a": tensor}, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match=rf"x\.pt: a \(3, 3\) is a {said} tensor"):
        load_state_dict(tmp_path / "x.pt")


@pytest.mark.parametrize("content", [{"state_dict": torch.zeros(2)}, {"state_dict": [1]}, torch.zeros(2), 7])
def test_pickles_of_other_things(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match=r"x\.pt: holds a (Tensor|list|int), not named tensors"):
        load_state_dict(tmp_path / "x.pt")


def test_keys_that_are_no_text(tmp_path: Path) -> None:
    torch.save({1: torch.ones(2), ("a", 2): torch.ones(2), "group": {3: torch.ones(2)}}, tmp_path / "x.pt")
    assert load_state_dict(tmp_path / "x.pt").keys() == {"1", "('a', 2)", "group.3"}


def test_a_name_that_no_file_can_store(tmp_path: Path) -> None:
    torch.save({"a\ud800": torch.ones(2)}, tmp_path / "x.pt", pickle_protocol=2)
    with pytest.raises(WeightsError, match=r"x\.pt: .*ud800.* no name of a tensor"):
        load_state_dict(tmp_path / "x.pt")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e5m2])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", [0, 500, 1002])
def test_values_that_are_not_finite_are_found(dtype: torch.dtype, value: float, place: int) -> None:
    values = torch.linspace(-1, 1, 1003)
    assert is_finite(values.to(dtype))
    values[place] = value
    assert not is_finite(values.to(dtype))


def test_what_cannot_be_nan() -> None:
    assert is_finite(torch.arange(3)) and is_finite(torch.zeros(0))
    for dtype in (torch.float16, torch.float32):
        assert is_finite(torch.tensor([-torch.finfo(dtype).max, torch.finfo(dtype).max], dtype=dtype))


def test_control_characters_are_shown_as_text() -> None:
    assert printable("a\x1b[31m\n\u202eb ü") == "a\\x1b[31m\\n\\u202eb ü"


@pytest.mark.parametrize("target", ["folder", "x"])
def test_what_cannot_be_written(tmp_path: Path, target: str) -> None:
    (tmp_path / "folder").mkdir()
    tensors = {"a": torch.zeros(2, dtype=torch.float32 if target == "folder" else torch.complex128)}
    with pytest.raises(WeightsError, match=rf"{target}: cannot be written"):
        save_state_dict(tmp_path / target, tensors, {})
    assert [file.name for file in tmp_path.iterdir()] == ["folder"], "nothing unfinished stays"
