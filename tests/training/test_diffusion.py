"""Losses and modules of the diffusion stages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from firstframe.bindings.diffusers import inject, transformer_block
from firstframe.modules.motion import TemporalAttention
from firstframe.tiny.scenes import sample_scene
from firstframe.tiny.text import known_tokens, tokenize
from firstframe.training import diffusion
from firstframe.training.data import ClipBatch, LatentClips, caption_batches, open_latents, render_scenes, training_seed
from firstframe.training.diffusion import (
    Recall,
    RetentionLoss,
    VelocityLoss,
    caption_loss,
    drop_words,
    new_adapter,
    new_base,
    new_motion,
    new_retention,
)

CAPTION = "a red star moves left quickly, still camera"


class Spy(nn.Module):
    """Answers with a fixed eps and remembers what it was shown."""

    def forward(self, noisy: Tensor, timestep: Tensor, tokens: Tensor) -> Tensor:
        self.noisy, self.timestep = noisy, timestep
        return torch.zeros_like(noisy)


def batch_of(latents: Tensor, paths: Tensor | None = None) -> ClipBatch:
    clips, frames, _, height, width = latents.shape
    nowhere = torch.zeros(clips, height, width, dtype=torch.bool)
    return ClipBatch(latents, [CAPTION] * clips, torch.arange(frames), nowhere if paths is None else paths)


def test_clean_first_frame_is_shown_and_left_out_of_the_loss() -> None:
    torch.manual_seed(0)
    spy, latents = Spy(), torch.randn(2, 4, 4, 8, 8)
    latents[:, 0] *= 100  # its velocity would be the whole loss
    assert VelocityLoss(clean_share=1.0)(spy, batch_of(latents)) < 2
    assert torch.equal(spy.noisy[:, 0], latents[:, 0])
    assert not torch.isclose(spy.noisy[:, 1:], latents[:, 1:]).any(dim=(2, 3, 4)).all()


def test_a_share_of_the_clips_begins_clean() -> None:
    torch.manual_seed(0)
    spy, latents = Spy(), torch.randn(64, 2, 4, 4, 4)
    VelocityLoss(clean_share=0.5)(spy, batch_of(latents))
    clean = (spy.noisy[:, 0] == latents[:, 0]).all((1, 2, 3))
    assert 16 < clean.sum() < 48


def test_where_the_thing_passes_counts_more() -> None:
    """A velocity of power 1 on the left, where the thing is, and of power 0 elsewhere."""
    latents = torch.zeros(4, 2, 4, 8, 8)
    paths = torch.zeros(4, 8, 8, dtype=torch.bool)
    paths[:, :, :2] = True

    class Left(nn.Module):
        def forward(self, noisy: Tensor, timestep: Tensor, tokens: Tensor) -> Tensor:
            alpha_squared = loss.schedule.alphas_cumprod[timestep]
            self.weight = 1 / (alpha_squared / (1 - alpha_squared)).clamp(1, 5) * (1 / (1 - alpha_squared))
            right = noisy * (alpha_squared / (1 - alpha_squared)).sqrt()[:, None, None, None, None]
            return right + torch.where(paths, self.weight.sqrt()[:, None, None], 0.0)[:, None, None]

    loss = VelocityLoss()
    share = 2 * diffusion.PATH_WEIGHT / (2 * diffusion.PATH_WEIGHT + 6)
    assert loss(Left(), batch_of(latents, paths)).item() == pytest.approx(share, rel=1e-3)


def test_loss_of_silence_is_the_weighted_power_of_the_velocity() -> None:
    """Latents and noise have power 1, so v has too; the weight is the SNR within 1 to 5 over SNR + 1."""
    torch.manual_seed(0)
    loss, spy = VelocityLoss(), Spy()
    value = loss(spy, batch_of(torch.randn(8, 2, 4, 32, 32)))
    alpha = loss.schedule.alphas_cumprod[spy.timestep]
    snr = alpha / (1 - alpha)
    assert value.item() == pytest.approx((snr.clamp(1, 5) / (snr + 1)).mean().item(), rel=0.02)


def test_recall_is_learned_from_the_text_alone() -> None:
    torch.manual_seed(0)
    model = new_base()
    model.parts["recall"] = recall = Recall()
    optimizer = torch.optim.AdamW([*model.text_encoder.parameters(), *recall.parameters()], lr=3e-3)
    batches = caption_batches(16, 8, seed=0)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = caption_loss(model, next(batches))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(weight.grad is None for weight in model.unet.parameters())


def test_recall_adds_its_share_to_the_loss() -> None:
    class Forgetful(Spy):
        def recall_loss(self, tokens: Tensor) -> Tensor:
            return torch.tensor(100.0)

    def loss(recall: bool) -> float:
        torch.manual_seed(0)
        value: float = VelocityLoss(recall=recall)(Forgetful(), batch_of(torch.zeros(2, 2, 4, 8, 8))).item()
        return value

    assert loss(True) - loss(False) == pytest.approx(100 * diffusion.RECALL_WEIGHT, rel=1e-4)


def test_the_right_velocity_has_no_loss() -> None:
    """v = alpha eps - sigma x; with x = 0 the noisy latents are sigma eps."""

    class Seer(nn.Module):
        def forward(self, noisy: Tensor, timestep: Tensor, tokens: Tensor) -> Tensor:
            alpha_squared = loss.schedule.alphas_cumprod[timestep][:, None, None, None, None]
            return noisy * (alpha_squared / (1 - alpha_squared)).sqrt()

    loss = VelocityLoss()
    assert loss(Seer(), batch_of(torch.zeros(4, 2, 4, 8, 8))) < 1e-6


def test_dropped_words_become_unknown_and_the_ends_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = tokenize([CAPTION])
    monkeypatch.setattr(diffusion, "DROP_WORD", 1.0)
    monkeypatch.setattr(diffusion, "DROP_TEXT", 0.0)
    dropped = drop_words(tokens)
    assert (dropped[0, 1:10] == len(known_tokens())).all()
    assert dropped[0, 0] == tokens[0, 0] and dropped[0, 10] == tokens[0, 10]
    monkeypatch.setattr(diffusion, "DROP_TEXT", 1.0)
    assert torch.equal(drop_words(tokens), tokenize([""]))


def test_new_adapter_starts_as_a_copy_that_adds_nothing_and_alone_gets_gradients() -> None:
    torch.manual_seed(0)
    model = new_base(motion=new_motion()).requires_grad_(False)
    adapter = model.parts["adapter"] = new_adapter(model.unet)
    for site in adapter:
        query = transformer_block(model.unet, site).attn1.to_q.weight
        assert torch.equal(adapter[site].to_q.weight, query)
    with inject(model.unet, model.parts["motion"], adapter, num_frames=3):
        VelocityLoss(clean_share=1.0)(model, batch_of(torch.randn(1, 3, 4, 16, 16))).backward()
    trained = {name for name, weight in model.named_parameters() if weight.grad is not None}
    assert trained and all(name.startswith("parts.adapter.") for name in trained)


def test_frames_keep_their_place_in_the_clip() -> None:
    model = new_base(motion=new_motion())
    pe = [attention.pe for attention in model.modules() if isinstance(attention, TemporalAttention)]
    diffusion.place_frames(model, torch.tensor([0, 5, 11]))
    moved = [attention.pe for attention in model.modules() if isinstance(attention, TemporalAttention)]
    assert all(
        torch.equal(new[:, :3], old[:, [0, 5, 11]]) and new.shape == old.shape
        for new, old in zip(moved, pe, strict=True)
    )
    diffusion.place_frames(model, torch.arange(16))
    assert all(torch.equal(a.pe, old) for a, old in zip(filter(is_temporal, model.modules()), pe, strict=True))


def is_temporal(module: nn.Module) -> bool:
    return isinstance(module, TemporalAttention)


def test_latents_are_opened_forwards_and_backwards(tmp_path: Path) -> None:
    latents = torch.randn(40, 16, 4, 16, 16).half()
    save_file({"latents": latents}, tmp_path / "latents.safetensors")
    clips = open_latents(tmp_path / "latents.safetensors")
    scenes = [sample_scene(training_seed(i)) for i in range(40)]
    assert clips.captions[:40] == [scene.caption for scene in scenes]
    assert clips.captions[40:] == [scene.backward_caption for scene in scenes if scene.camera != "turn"]
    backward = [latent.flip(0) for latent, scene in zip(latents, scenes, strict=True) if scene.camera != "turn"]
    assert torch.equal(clips.latents, torch.cat([latents, torch.stack(backward)]))
    turned = [i for i, scene in enumerate(scenes) if scene.camera != "turn"]
    assert torch.equal(clips.paths[40:], clips.paths[turned])


@pytest.mark.parametrize("shown", [1, 4, 16])
def test_batches_show_the_frames_they_name(shown: int) -> None:
    latents = torch.arange(16.0).expand(3, 16).reshape(3, 16, 1, 1, 1).repeat(1, 1, 4, 2, 2)
    batches = LatentClips(latents, ["one", "two", "three"], torch.ones(3, 2, 2, dtype=torch.bool)).batches(
        5, shown, seed=0
    )
    for _ in range(4):
        shown_latents, captions, frames, paths, pictures = next(batches)
        assert pictures is None
        assert shown_latents.shape == (5, shown, 4, 2, 2) and len(captions) == len(paths) == 5
        if shown > 1:
            assert frames[0] == 0 and (frames.diff() > 0).all()
            assert torch.equal(shown_latents[0, :, 0, 0, 0], frames.float())


def test_pictures_are_the_frames_that_clips_start_with(tmp_path: Path) -> None:
    """A clip that is played backwards starts with the last frame of its scene."""
    count = 12
    scenes = render_scenes(tmp_path / "scenes.npy", count)
    save_file({"latents": torch.zeros(count, 16, 4, 16, 16).half()}, tmp_path / "latents.safetensors")
    clips = open_latents(tmp_path / "latents.safetensors", tmp_path / "scenes.npy")
    backward = [i for i in range(count) if sample_scene(training_seed(i)).backward_caption is not None]
    assert clips.pictures is not None and len(clips.pictures) == len(clips.captions) == count + len(backward)
    assert np.array_equal(clips.pictures[3].permute(1, 2, 0), scenes[3, 0])
    assert np.array_equal(clips.pictures[count].permute(1, 2, 0), scenes[backward[0], -1])
    batch = next(clips.batches(2, 4, seed=0))
    assert batch.pictures is not None and batch.pictures.shape == (2, 3, 128, 128) and batch.pictures.max() <= 1


def test_retention_alone_gets_gradients_with_and_without_the_adapter() -> None:
    torch.manual_seed(0)
    model = new_base(motion=new_motion()).requires_grad_(False)
    model.parts["adapter"] = new_adapter(model.unet)
    model.requires_grad_(False)
    branch = model.parts["retention"] = new_retention(model.unet, model.motion)
    pictures = torch.rand(1, 3, 128, 128)
    batch = batch_of(torch.randn(1, 3, 4, 16, 16))._replace(pictures=pictures)
    with inject(model.unet, model.motion, model.adapter, num_frames=3) as injection:
        loss, seen = RetentionLoss(injection, branch), set()
        while len(seen) < 2:
            loss(model, batch).backward()
            seen.add(injection.adapter_scale)
    trained = {name for name, weight in model.named_parameters() if weight.grad is not None}
    assert trained and all(name.startswith("parts.retention.") for name in trained)
    assert branch.projections[0].weight.grad.abs().max() > 0
