"""Every stage trains what it should, on what the stage before it left."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from firstframe.bindings.diffusers import Injection, inject, transformer_block
from firstframe.tiny import data, export, plan, recipe
from firstframe.tiny.config import STEM_CHANNELS
from firstframe.tiny.denoiser import Denoiser, alphas_cumprod, new_base, new_motion
from firstframe.tiny.files import weights_file
from firstframe.tiny.model import load_tiny
from firstframe.tiny.recall import tiny_word_dropout
from firstframe.tiny.scenes import BUILT_IN
from firstframe.tiny.stem import StemReadout, stem_loss
from firstframe.tiny.text import tokenize
from firstframe.training import log, stage
from firstframe.training.data import ClipBatch
from firstframe.training.losses import RetentionLoss, VideoLoss
from firstframe.training.start import new_adapter, new_retention
from firstframe.weights import load_metadata

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
    tokens = tokenize(["a red star moves left quickly, still camera", "a blue disc moves up, pan right"])
    positions, images = torch.tensor([0, 5, 11]), torch.rand(2, 3, 128, 128)
    return ClipBatch(torch.randn(2, 4, FRAMES, 16, 16), tokens, torch.ones(2, 16, 16), positions, images)


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


def test_retention_alone_gets_gradients_with_and_without_the_adapter(model: Denoiser, batch: ClipBatch) -> None:
    branch = model.parts["retention"] = new_retention(model.unet, model.motion, STEM_CHANNELS)
    halves = []
    with inject(model.unet, model.motion, model.adapter, num_frames=FRAMES) as injection:

        def seen(scale: float) -> Callable[[Denoiser, ClipBatch], Tensor]:
            def loss(model: Denoiser, half: ClipBatch) -> Tensor:
                assert injection.adapter_scale == scale and len(injection.retention.features) == len(half.latents)
                halves.append(half)
                return video_loss(injection, scale)(model, half)

            return loss

        RetentionLoss(injection, branch, seen(0.0), seen(1.0))(model, batch).backward()  # type: ignore[arg-type]
    assert torch.equal(torch.cat([half.latents for half in halves]), batch.latents)
    assert torch.equal(torch.cat([half.images for half in halves]), batch.images)
    assert graded(model) and all(name.startswith("parts.retention.") for name in graded(model))
    assert branch.projections[0].weight.grad.abs().max() > 0


def test_the_stem_alone_learns_to_tell_the_latents(model: Denoiser, batch: ClipBatch) -> None:
    branch = new_retention(model.unet, model.motion, STEM_CHANNELS)
    before = {name: weight.clone() for name, weight in branch.state_dict().items()}
    reader, told = StemReadout(branch), functional.avg_pool2d(batch.images, 8)
    seen = batch._replace(latents=torch.cat([told, told.mean(1, keepdim=True)], 1).unsqueeze(2))
    optimiser = torch.optim.AdamW([weight for weight in reader.parameters() if weight.requires_grad], lr=5e-3)
    losses = []
    for _ in range(20):
        loss = stem_loss(reader, seen)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    changed = {name for name, weight in branch.state_dict().items() if not torch.equal(weight, before[name])}
    assert changed and all(name.startswith("stem.") for name in changed)


@pytest.mark.slow
def test_a_whole_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From nothing to weights that load, one step to a stage; a second call has nothing left to do."""
    monkeypatch.setattr(data, "SHARD", 1)
    monkeypatch.setattr(plan, "LOOK_SCENES", 1)
    monkeypatch.setattr(plan, "MOST_SCENES", 2)
    monkeypatch.setattr(stage, "LEAST_STEPS", 1)
    monkeypatch.setattr(log, "history", lambda folder: {"stage": folder.name})
    monkeypatch.setattr(export, "history", lambda folder: {"stage": folder.name})
    for name, one in plan.STAGES.items():
        monkeypatch.setitem(plan.STAGES, name, replace(one, share=1e-6, batch_size=2, shown=min(one.shown, 2)))
    told: list[str] = []
    training = plan.TinyTraining(
        tmp_path, 0.01, CPU, BUILT_IN, weights_file("autoencoder"), begin_with=None, say=told.append
    )
    weights = training.run()
    model = load_tiny(folder=weights)
    frozen, trained = (load_file(tmp_path / name / "final.safetensors") for name in ("whole", "adapter_whole"))
    assert all(torch.equal(frozen[name], trained[name]) for name in frozen)
    assert torch.equal(model.unet.conv_in.weight, frozen["unet.conv_in.weight"].half().float())
    story = load_metadata(weights_file("unet", weights))
    assert [one["stage"] for one in json.loads(story["firstframe.training"])] == [
        "text",
        "images",
        "clips",
        "whole",
    ]
    assert json.loads(story["firstframe.run"])["begins_with"] == "random weights"
    precisions = {
        file.parent.name: json.loads(file.read_text())["precision"] for file in tmp_path.glob("*/config.json")
    }
    assert precisions == {name: "no" if name == "text" else "bf16" for name in plan.STAGES}
    monkeypatch.setattr(recipe, "pace", lambda *_: pytest.fail("trained again"))
    assert training.run() == weights and sum("(done)" in line for line in told) == len(plan.STAGES)


def test_steps_follow_from_the_time_and_stay(tmp_path: Path) -> None:
    assert stage.planned_steps(tmp_path, 100.0, lambda: 0.5) == 200
    assert stage.planned_steps(tmp_path, 1.0, lambda: 0.5) == stage.LEAST_STEPS
    (tmp_path / "config.json").write_text('{"steps": 77}')
    assert stage.planned_steps(tmp_path, 100.0, lambda: pytest.fail("measured")) == 77
