from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from firstframe.errors import WeightsError
from firstframe.weights import load_metadata, load_state_dict, save_state_dict

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.float16)}


def same(found: dict[str, torch.Tensor]) -> bool:
    return found.keys() == STATE.keys() and all(torch.equal(found[k], STATE[k]) for k in STATE)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_state_dict(path, STATE, {"made by": "a test"})
    assert same(load_state_dict(path))
    assert load_metadata(path) == {"made by": "a test"}
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]


def test_saving_over_a_file_in_use(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_state_dict(path, STATE, {})
    loaded = load_state_dict(path)
    save_state_dict(path, {"c": torch.zeros(1)}, {})
    assert same(loaded)
    assert load_state_dict(path).keys() == {"c"}


@pytest.mark.parametrize("ending", ["ckpt", "pt", "pth", "bin"])
def test_pickles(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"x.{ending}"
    torch.save(STATE, path)
    assert same(load_state_dict(path))
    assert load_metadata(path) == {}


def test_wrappings_are_taken_off(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    torch.save({"epoch": 3, "state_dict": {f"module.{k}": v for k, v in STATE.items()} | {"step": 5}}, path)
    assert same(load_state_dict(path))


class Evil:
    def __reduce__(self):
        return (os.system, ("touch hacked",))


def bare_pickle(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize("save", [torch.save, bare_pickle])
def test_a_malicious_pickle_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.ckpt"
    save({"a": Evil()}, path)
    with pytest.raises(WeightsError, match=r"x\.ckpt: refused, because it would call (posix|nt)\.system"):
        load_state_dict(path)
    assert not (tmp_path / "hacked").exists()
    torch.load(path, weights_only=False) if save is torch.save else pickle.loads(path.read_bytes())
    assert (tmp_path / "hacked").exists(), "it is harmless, and this test proves nothing"


def test_a_compressed_pickle(tmp_path: Path) -> None:
    """It cannot be mapped into memory as it is."""
    numbers = torch.randint(256, (10_000,), dtype=torch.uint8)  # which no compression makes smaller
    torch.save({"weight": numbers}, tmp_path / "stored.pt")
    with (
        zipfile.ZipFile(tmp_path / "stored.pt") as stored,
        zipfile.ZipFile(tmp_path / "deflated.pt", "w", zipfile.ZIP_DEFLATED) as deflated,
    ):
        for name in stored.namelist():
            deflated.writestr(name, stored.read(name))
    assert torch.equal(load_state_dict(tmp_path / "deflated.pt")["weight"], numbers)


def test_groups_become_prefixes(tmp_path: Path) -> None:
    """As in IP-Adapter's .bin files."""
    torch.save({"image_proj": STATE, "ip_adapter": {"1.to_k_ip.weight": torch.ones(2)}}, tmp_path / "x.bin")
    assert load_state_dict(tmp_path / "x.bin").keys() == {
        "image_proj.a.weight",
        "image_proj.b",
        "ip_adapter.1.to_k_ip.weight",
    }


@pytest.mark.parametrize("name", ["x.safetensors", "x.pth"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_types_are_kept(tmp_path: Path, name: str, dtype: torch.dtype) -> None:
    values = torch.tensor([0.0, 0.5, -2.0]).to(dtype)
    (save_file if name.endswith("safetensors") else torch.save)({"a": values}, tmp_path / name)
    found = load_state_dict(tmp_path / name)["a"]
    assert found.dtype == dtype
    assert torch.equal(found.float(), values.float())


@pytest.mark.parametrize("name", ["x.safetensors", "x.ckpt"])
@pytest.mark.parametrize("kept", [0, 4, 40, -1])
def test_a_truncated_file(tmp_path: Path, name: str, kept: int) -> None:
    path = tmp_path / name
    if name.endswith("ckpt"):
        torch.save(STATE, path)
    else:
        save_file(STATE, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(WeightsError, match=rf"{name}: cannot be read.*cut off"):
        load_state_dict(path)


def test_a_file_of_another_type(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(b"\x89PNG")
    with pytest.raises(WeightsError, match=r"image\.png.*safetensors"):
        load_state_dict(path)
    path = path.rename(tmp_path / "renamed.safetensors")
    with pytest.raises(WeightsError, match=r"renamed\.safetensors: cannot be read"):
        load_state_dict(path)


@pytest.mark.parametrize("name", ["x.safetensors", "x.ckpt"])
def test_a_missing_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(WeightsError, match="there is no such file"):
        load_state_dict(tmp_path / name)


def test_a_pickle_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save([1, 2], path)
    with pytest.raises(WeightsError, match="list"):
        load_state_dict(path)
