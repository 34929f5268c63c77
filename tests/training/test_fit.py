"""Training from files to files: it learns, goes on after a kill, and stops where it must."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from firstframe.errors import FirstFrameError
from firstframe.training.clips.plan import make_plan
from firstframe.training.config import TrainingConfig
from firstframe.training.run import Training
from firstframe.training.target import Kind
from firstframe.weights import I2V_ADAPTER, MOTION_MODULE, RETENTION, has_motion_module, load, load_metadata

sys.path.insert(0, str(Path(__file__).parent))
from material import base_of, configuration, write_clips, write_models

ROOT = Path(__file__).parents[2]
TARGETS: list[tuple[Kind, bool]] = [("adapter", False), ("retention", False), ("retention", True)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models, and two clips."""
    folder = tmp_path_factory.mktemp("training")
    write_models(folder)
    write_clips(folder / "clips", 2)
    return folder


def training(kind: Kind, config: TrainingConfig) -> Training:
    return Training.of(kind, config, base_of(config), make_plan(config), cpu=True)


def configured(folder: Path, run: Path, **train: Any) -> TrainingConfig:
    settings = {"max_train_steps": 4, "log_every_n_steps": 1, "save_every_n_steps": 2, "output_dir": run}
    return configuration(folder, folder / "clips", **{**settings, **train})


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def trained(run: Path) -> dict[str, Tensor]:
    state: dict[str, Any] = torch.load(run / "checkpoint.pt", weights_only=True)
    return {**state["weights"], **{f"average {i}": average for i, average in enumerate(state["averages"])}}


@pytest.mark.parametrize(("kind", "temporal"), TARGETS)
def test_only_what_is_to_be_trained_changes_and_is_saved(
    folder: Path, tmp_path: Path, kind: Kind, temporal: bool
) -> None:
    config = configured(folder, tmp_path, temporal=temporal, learning_rate=0.01)
    run = training(kind, config)
    before = {name: weight.clone() for name, weight in run.target.denoiser.state_dict().items()}
    assert run.run(resume=False) == 4
    after = run.target.denoiser.state_dict()
    changed = {name.split(".")[0] for name, weight in after.items() if not weight.equal(before[name])}
    assert changed == {kind} | ({"motion"} if temporal else set())
    file = tmp_path / f"{kind}.safetensors"
    saved = load(I2V_ADAPTER if kind == "adapter" else RETENTION, file)
    ours = run.target.denoiser.get_submodule(kind).state_dict()
    assert all(torch.allclose(weight, ours[name], atol=1e-3) for name, weight in saved.state_dict().items())
    told = json.loads(load_metadata(file)["firstframe.training"])
    assert told["steps"] == 4 and told["kind"] == kind and told["train"]["learning_rate"] == 0.01
    assert has_motion_module(file) == temporal
    if temporal:
        assert load(MOTION_MODULE, file).widths == run.base.motion.widths


ACCUMULATED = {"gradient_accumulation_steps": 2, "ema_decay": 0.9, "lr_scheduler": "cosine"}


@pytest.mark.parametrize("options", [{}, ACCUMULATED])
def test_a_run_that_was_cut_off_ends_as_one_that_was_not(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    options = {**options, "temporal": True, "drop_text": 0.3, "drop_image": 0.2, "batch_size": 2}
    whole, cut = (configured(folder, tmp_path / name, **options) for name in ("whole", "cut"))
    training("retention", whole).run(resume=False)
    interrupted = training("retention", cut)
    calls = iter(range(100))
    loss = type(interrupted.objective).__call__

    def failing(*args: Any, **kwargs: Any) -> Tensor:
        if next(calls) == 3 * cut.train.gradient_accumulation_steps:
            raise ConnectionResetError
        return loss(*args, **kwargs)

    monkeypatch.setattr(type(interrupted.objective), "__call__", failing)
    with pytest.raises(ConnectionResetError):
        interrupted.run(resume=False)
    monkeypatch.undo()
    torch.manual_seed(99)
    assert training("retention", cut).run(resume=True) == 4
    expected, found = trained(tmp_path / "whole"), trained(tmp_path / "cut")
    assert expected.keys() == found.keys() and all(expected[name].equal(found[name]) for name in expected)
    losses = [[line["loss"] for line in lines(tmp_path / name)] for name in ("whole", "cut")]
    assert losses[0] == losses[1] and len(losses[0]) == 4


@pytest.mark.slow
def test_a_killed_command_goes_on(folder: Path, tmp_path: Path) -> None:
    """kill -9 of the real command, at whatever it is doing."""
    text = f"""
        [model]
        checkpoint = "{folder}/checkpoint.safetensors"
        motion_module = "{folder}/motion.ckpt"
        [data]
        cache_directory = "{folder}/cache"
        held_out = 0.0
        [[datasets]]
        video_directory = "{folder}/clips"
        resolution = [64, 64]
        target_frames = [4]
        [train]
        output_dir = "RUN"
        max_train_steps = 12
        save_every_n_steps = 1
        log_every_n_steps = 1
        [samples]
        every_n_steps = 0
    """

    def command(name: str, *options: str) -> subprocess.Popen[bytes]:
        file = tmp_path / f"{name}.toml"
        file.write_text(text.replace("RUN", name))
        arguments = [sys.executable, "-m", "firstframe.cli", "train", "adapter", str(file), "--device", "cpu", *options]
        return subprocess.Popen(arguments, cwd=ROOT, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"})

    assert command("whole").wait() == 0
    killed = command("killed")
    while not (tmp_path / "killed" / "log.jsonl").exists() or len(lines(tmp_path / "killed")) < 3:
        assert killed.poll() is None
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert command("killed", "--resume").wait() == 0
    assert all(weight.equal(trained(tmp_path / "whole")[name]) for name, weight in trained(tmp_path / "killed").items())


def test_ctrl_c_saves_first(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = training("adapter", configured(folder, tmp_path, save_every_n_steps=100))
    loss = type(run.objective).__call__
    done = iter(range(100))

    def interrupting(*args: Any, **kwargs: Any) -> Tensor:
        if next(done) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return loss(*args, **kwargs)

    monkeypatch.setattr(type(run.objective), "__call__", interrupting)
    assert run.run(resume=False) == 3
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 3


def test_numbers_that_are_not_finite_stop_it(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = training("adapter", configured(folder, tmp_path))
    loss = type(run.objective).__call__
    done = iter(range(100))

    def broken(*args: Any, **kwargs: Any) -> Tensor:
        value = loss(*args, **kwargs)
        return value * float("nan") if next(done) == 2 else value

    monkeypatch.setattr(type(run.objective), "__call__", broken)
    with pytest.raises(FirstFrameError, match=r"at step 3; the last good checkpoint is .*checkpoint\.pt"):
        run.run(resume=False)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 2


def test_a_run_is_neither_overwritten_nor_mixed_with_another(folder: Path, tmp_path: Path) -> None:
    config = configured(folder, tmp_path, max_train_steps=1)
    with pytest.raises(FirstFrameError, match="start without --resume"):
        training("adapter", config).run(resume=True)
    training("adapter", config).run(resume=False)
    with pytest.raises(FirstFrameError, match="--resume, or name another output_dir"):
        training("adapter", config).run(resume=False)
    with pytest.raises(FirstFrameError, match=r"of another configuration: train\.learning_rate changed"):
        training("adapter", configured(folder, tmp_path, learning_rate=1.0)).run(resume=True)
    assert training("adapter", configured(folder, tmp_path, max_train_steps=2)).run(resume=True) == 2


def test_recomputed_activations_have_the_same_gradients(folder: Path, tmp_path: Path) -> None:
    for flag in (False, True):
        config = configured(folder, tmp_path / str(flag), gradient_checkpointing=flag, temporal=True)
        training("retention", config).run(resume=False)
    plain, recomputed = (trained(tmp_path / str(flag)) for flag in (False, True))
    for name, weight in plain.items():
        torch.testing.assert_close(recomputed[name], weight)


def test_what_would_train_nothing_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FirstFrameError, match="drop_image and drop_both train nothing"):
        training("adapter", configured(folder, tmp_path, drop_image=0.1))
    with pytest.raises(FirstFrameError, match="train retention"):
        training("adapter", configured(folder, tmp_path, temporal=True))


@pytest.fixture
def watched(folder: Path, tmp_path: Path) -> Callable[..., Training]:
    def make(kind: Kind) -> Training:
        config = configured(folder, tmp_path)
        update = {
            "data": config.data.model_copy(update={"held_out": 0.5}),
            "samples": config.samples.model_copy(update={"every_n_steps": 2, "sample_steps": 2, "count": 1}),
        }
        return training(kind, config.model_copy(update=update))

    return make


@pytest.mark.parametrize("kind", ["adapter", "retention"])
def test_held_out_clips_are_watched(watched: Callable[..., Training], tmp_path: Path, kind: Kind) -> None:
    watched(kind).run(resume=False)
    found = {line["step"]: line for line in lines(tmp_path) if "held_out_loss" in line}
    assert found.keys() == {0, 2, 4}
    assert {line["step"] for line in lines(tmp_path) if "sample_ssim" in line} == {0, 2, 4}
    assert {file.name for file in (tmp_path / "samples").iterdir()} >= {"step_000004.png", "step_000004_0.mp4"}


def test_half_precision_needs_a_gpu(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FirstFrameError, match=r"fp16.*bf16"):
        training("adapter", configured(folder, tmp_path, mixed_precision="fp16"))
