"""`firstframe weights …`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from firstframe.cli.app import app
from firstframe.tiny.files import weights_file
from firstframe.weights.hub.folders import model_folders
from firstframe.weights.hub.manifest import WeightSet, bundles, published, weight_set

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    return lambda *arguments: CliRunner().invoke(app, ["weights", *map(str, arguments)])


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WeightSet:
    """The one weight set of a manifest, installed below ``tmp_path``."""
    content = b"weights" * 100
    entry = replace(weight_set("animatediff-v3"), bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setattr("firstframe.weights.hub.manifest.published", lambda: [entry])
    (tmp_path / entry.folder).mkdir()
    (tmp_path / entry.folder / entry.file).write_bytes(content)
    return entry


def test_list_and_show(run: Run) -> None:
    listed = run("list").output
    assert all(entry.id in listed for entry in published())
    assert any(line.startswith("official") and "i2v-adapter-base" in line for line in listed.splitlines())
    shown = run("show", "pia").output
    assert "unpinned" in shown and "models/animatediff_models" in shown and "firstframe weights fetch pia" in shown
    assert "animatediff-v3" in run("show", "animatediff-v4").stderr


def test_verify_what_is_installed(run: Run, installed: WeightSet, tmp_path: Path) -> None:
    file = tmp_path / installed.folder / installed.file
    result = run("verify", "--models-dir", tmp_path)
    assert result.exit_code == 0 and result.stdout.split() == ["verified", str(file)]
    changed = bytearray(file.read_bytes())
    changed[100:102] = b"!!"
    file.write_bytes(changed)
    for arguments in (("--models-dir", tmp_path), (file,)):
        result = run("verify", *arguments)
        assert result.exit_code == 1
        assert installed.sha256 in result.stderr and hashlib.sha256(changed).hexdigest() in result.stderr
    assert file.read_bytes() == changed


def test_verify_a_file_of_an_unknown_name(run: Run, tmp_path: Path) -> None:
    assert "mine.ckpt" in run("verify", tmp_path / "mine.ckpt").stderr


def test_inspect(run: Run, tmp_path: Path) -> None:
    told = run("inspect", weights_file("i2v_adapter")).output
    assert "FirstFrame I2V adapter, 16 sites" in told and "float16" in told and "firstframe.training" in told
    broken = {"a": torch.tensor([1.0, float("nan")]), "b": torch.zeros(3, dtype=torch.float8_e4m3fn)}
    save_file(broken, tmp_path / "strange.safetensors")
    told = run("inspect", tmp_path / "strange.safetensors").output
    assert "unknown to FirstFrame" in told and "parameters 5 (3 float8_e4m3fn, 2 float32)" in told and ": a" in told
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "strange.safetensors").read_bytes()[:20])
    assert "cut.safetensors" in run("inspect", tmp_path / "cut.safetensors").stderr


def test_inspect_shows_control_characters_as_text(run: Run, tmp_path: Path) -> None:
    tensors = {"a\x1b[2J": torch.tensor([float("nan")])}
    save_file(tensors, tmp_path / "x.safetensors", {"by\x1b]0;me\x07": "\x1b[31mred"})
    told = run("inspect", tmp_path / "x.safetensors").output
    assert "a\\x1b[2J" in told and "by\\x1b]0;me\\x07: \\x1b[31mred" in told and "\x1b" not in told


def test_inspect_tells_what_an_adapter_lacks(run: Run, oracle_dir: Path, tmp_path: Path) -> None:
    from firstframe.weights import load_state_dict

    (official,) = oracle_dir.glob("i2v_module.*")
    state = {name: tensor for name, tensor in load_state_dict(official).items() if not name.startswith("mid_block")}
    save_file(state, tmp_path / "no_mid.safetensors")
    told = run("inspect", tmp_path / "no_mid.safetensors").output
    assert "official I2V-Adapter, 15 sites" in told and "lacks mid_0_0" in told


def test_convert(run: Run, oracle_dir: Path, tmp_path: Path) -> None:
    (official,) = oracle_dir.glob("i2v_module.*")
    whole, own = tmp_path / "whole.safetensors", tmp_path / "own.safetensors"
    assert run("convert", official, whole).exit_code == 0
    assert run("convert", official, own, "--part", "i2v_adapter").exit_code == 0
    assert "official I2V-Adapter" in run("inspect", whole).output
    assert "FirstFrame I2V adapter" in run("inspect", own).output
    assert "motion module was expected" in run("convert", official, own, "--part", "motion_module").stderr
    assert run("convert", own, whole, "--part", "i2v_adapter", "--names", "diffusers").exit_code == 0
    assert "official I2V-Adapter" in run("inspect", whole).output
    (base,) = oracle_dir.glob("base.*")
    assert run("convert", base, whole, "--part", "unet").exit_code == 0
    assert "model.diffusion_model.input_blocks.0.0.weight" in load_file(whole)
    for wrong in (("--names", "host"), ("--part", "unet", "--names", "firstframe")):
        assert "does not go with" in run("convert", base, whole, *wrong).stderr


def test_extra_model_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = tmp_path / "ComfyUI" / "models"
    models.mkdir(parents=True)
    settings = """
        other:
            base_path: ../shared
            is_default: true
            animatediff_models: motion
        more:
            checkpoints: |
                a
                b
    """
    (models.parent / "extra_model_paths.yaml").write_text(settings)
    monkeypatch.setenv("COMFYUI_PATH", str(models.parent))
    folders = model_folders()
    assert folders.target("animatediff_models").resolve() == tmp_path / "shared" / "motion"
    assert folders.target("checkpoints") == models / "checkpoints"
    (models.parent / "b").mkdir()
    (models.parent / "b" / "x.ckpt").touch()
    assert folders.find("checkpoints", "x.ckpt") == models.parent / "b" / "x.ckpt"
    assert folders.find("checkpoints", "y.ckpt") is None


def test_without_comfyui(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    assert "--models-dir" in run("verify").stderr


def pinned(id: str, hub: Any) -> WeightSet:
    return replace(weight_set(id), bytes=len(hub.content), sha256=hashlib.sha256(hub.content).hexdigest())


def test_fetch(run: Run, hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = pinned("animatediff-v3", hub)
    monkeypatch.setattr("firstframe.weights.hub.manifest.weight_set", lambda _: entry)
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    result = run("fetch", "animatediff-v3", "--models-dir", tmp_path)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "animatediff_models" / "v3_sd15_mm.ckpt").read_bytes() == hub.content
    assert "pinned" in result.stdout


def test_a_bundle_is_fetched_as_far_as_it_can_be(
    run: Run, hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [pinned(entry.id, hub) for entry in bundles()["community"]]
    entries[0] = replace(entries[0], sha256="0" * 64)
    monkeypatch.setattr("firstframe.weights.hub.manifest.published", lambda: entries)
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    result = run("fetch", "community", "--models-dir", tmp_path)
    assert result.exit_code == 1 and entries[0].id in result.stderr and "0" * 64 in result.stderr
    assert [(tmp_path / entry.folder / entry.file).exists() for entry in entries] == [False, True, True]


def test_ctrl_c_is_told(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("firstframe.weights.hub.fetch.fetch", interrupted)
    result = run("fetch", "animatediff-v3", "--models-dir", tmp_path)
    assert result.exit_code == 130 and "the same command goes on" in result.stderr


def test_verify_with_nothing_installed_says_so(run: Run, tmp_path: Path) -> None:
    result = run("verify", "--models-dir", tmp_path)
    assert result.exit_code == 0 and "no published weight set is installed" in result.stdout


def test_verify_a_file_that_is_not_there(run: Run, tmp_path: Path) -> None:
    result = run("verify", tmp_path / "v3_sd15_mm.ckpt")
    assert result.exit_code == 1 and result.stdout.startswith("missing")


def test_nothing_in_a_file_steers_the_terminal(run: Run, tmp_path: Path) -> None:
    steering = "\x1b[2J\x1b]0;owned\x07"
    tensors = {f"a{steering}": torch.tensor([float("nan")])}
    save_file(tensors, tmp_path / "strange.safetensors", {f"note{steering}": steering})
    told = run("inspect", tmp_path / "strange.safetensors").output
    assert told.count(r"\x1b[2J\x1b]0;owned\x07") == 3 and "\x1b" not in told and "\x07" not in told
