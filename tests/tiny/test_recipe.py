"""Every stage trains what it should, on what the stage before it left."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from firstframe.bindings.diffusers import Injection, inject, transformer_block
from firstframe.tiny.config import STEM_CHANNELS
from firstframe.tiny.data import render_scenes
from firstframe.tiny.denoiser import Denoiser, alphas_cumprod, new_base, new_motion
from firstframe.tiny.recall import tiny_word_dropout
from firstframe.tiny.recipe import (
    Run,
    encode,
    train_adapter,
    train_adapter_whole,
    train_autoencoder,
    train_base,
    train_decoder,
    train_look,
    train_retention,
    train_text,
)
from firstframe.tiny.text import tokenize
from firstframe.training.data import ClipBatch
from firstframe.training.losses import RetentionLoss, VideoLoss
from firstframe.training.start import new_adapter, new_retention

CPU = torch.device("cpu")
FRAMES = 3


@pytest.fixture
def model() -> Denoiser:
    """A frozen base with its motion module and an untrained adapter."""
    torch.manual_seed(0)
    model = new_base(motion=new_motion())
    model.parts["adapter"] = new_adapter(model.unet)
    return model.requires_grad_(False)


@pytest.fixture
def batch() -> ClipBatch:
    tokens = tokenize(["a red star moves left quickly, still camera"])
    positions, images = torch.tensor([0, 5, 11]), torch.rand(1, 3, 128, 128)
    return ClipBatch(torch.randn(1, 4, FRAMES, 16, 16), tokens, torch.ones(1, 16, 16), positions, images)


def video_loss(injection: Injection, clean_share: float) -> VideoLoss:
    return VideoLoss(injection, alphas_cumprod(), tiny_word_dropout(CPU), clean_share)


def graded(model: Denoiser) -> list[str]:
    return [name for name, weight in model.named_parameters() if weight.grad is not None]


def test_new_adapter_starts_as_a_copy_that_adds_nothing_and_alone_gets_gradients(
    model: Denoiser, batch: ClipBatch
) -> None:
    adapter = model.adapter.requires_grad_(True)
    for site in adapter:
        assert torch.equal(adapter[site].to_q.weight, transformer_block(model.unet, site).attn1.to_q.weight)
        assert not adapter[site].to_out.weight.any()
    with inject(model.unet, model.motion, adapter, num_frames=FRAMES) as injection:
        video_loss(injection, 1.0)(model, batch).backward()
        assert injection.positions is batch.positions
    assert graded(model) and all(name.startswith("parts.adapter.") for name in graded(model))


def test_retention_alone_gets_gradients_with_and_without_the_adapter(
    model: Denoiser, batch: ClipBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    branch = model.parts["retention"] = new_retention(model.unet, model.motion, STEM_CHANNELS)
    with inject(model.unet, model.motion, model.adapter, num_frames=FRAMES) as injection:
        loss = RetentionLoss(injection, branch, video_loss(injection, 0.0), video_loss(injection, 1.0))
        for drawn, scale in ((0.0, 0.0), (1.0, 1.0)):
            monkeypatch.setattr(random, "random", lambda drawn=drawn: drawn)
            loss(model, batch).backward()
            assert injection.adapter_scale == scale
    assert graded(model) and all(name.startswith("parts.retention.") for name in graded(model))
    assert branch.projections[0].weight.grad.abs().max() > 0


@pytest.mark.slow
def test_every_stage_runs_on_what_the_one_before_it_left(tmp_path: Path) -> None:
    def run(shown: int = 1) -> Run:
        return Run(tmp_path, CPU, steps=1, learning_rate=1e-3, batch_size=1, shown=shown)

    render_scenes(tmp_path / "scenes.npy", 1)
    train_autoencoder(run(), 1)
    encode(tmp_path, 1, CPU)
    train_decoder(run(), 1)
    train_text(run(), 1)
    for stage, shown in (("pictures", 1), ("clips", 2), ("whole", 2)):
        train_base(run(shown), stage)
    for train in (train_adapter, train_adapter_whole, train_retention):
        train(run(2))
    train_look(run(2), 1)
    precisions = {
        file.parent.name: json.loads(file.read_text())["precision"] for file in tmp_path.glob("*/config.json")
    }
    in_fp32 = {"autoencoder", "decoder", "text"}
    assert precisions == {name: "no" if name in in_fp32 else "bf16" for name in precisions} and len(precisions) == 10
    frozen, trained = load_file(run().file("whole")), load_file(run().file("adapter_whole"))
    assert all(torch.equal(frozen[name], trained[name]) for name in frozen)
