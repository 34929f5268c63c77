"""Batches of encoded clips."""

from __future__ import annotations

import pytest
import torch

from firstframe.training.data import BATCHES, DRAWS, LatentClips, seed_of


@pytest.fixture
def clips() -> LatentClips:
    """Three clips whose latents are the number of the frame, plus 100 for each clip."""
    latents = torch.arange(16.0) + 100 * torch.arange(3.0)[:, None]
    images = torch.arange(3, dtype=torch.uint8).view(3, 1, 1, 1).expand(3, 3, 16, 16)
    return LatentClips(
        latents[:, None, :, None, None].expand(3, 4, 16, 2, 2), torch.arange(3)[:, None], torch.ones(3, 2, 2), images
    )


@pytest.mark.parametrize("num_frames", [4, 16])
def test_batches_show_the_frames_they_name(clips: LatentClips, num_frames: int) -> None:
    batches = clips.batches(5, num_frames, seed=0)
    for batch in map(batches, range(4)):
        assert batch.latents.shape == (5, 4, num_frames, 2, 2) and batch.weights.shape == (5, 2, 2)
        assert batch.positions is not None and batch.positions[0] == 0 and (batch.positions.diff() > 0).all()
        assert torch.equal(batch.latents[:, 0, :, 0, 0], batch.positions + 100.0 * batch.tokens)
        assert batch.images is not None and torch.equal(batch.images[:, 0, 0, :1], batch.tokens / 255)


def test_single_frames_are_any_frames(clips: LatentClips) -> None:
    batch = clips.batches(64, 1, seed=0)(0)
    assert batch.latents.shape == (64, 4, 1, 2, 2) and batch.positions is None
    frames = batch.latents[:, 0, 0, 0, 0]
    assert torch.equal(frames // 100, batch.tokens[:, 0].float()) and len((frames % 100).unique()) > 10


def test_a_step_has_the_same_batch_in_every_run(clips: LatentClips) -> None:
    first, second = clips.batches(5, 4, seed=0), clips.batches(5, 4, seed=0)
    assert torch.equal(first(7).latents, second(7).latents)
    assert not torch.equal(first(7).latents, first(8).latents)
    assert not torch.equal(first(7).latents, clips.batches(5, 4, seed=1)(7).latents)


def test_no_two_streams_share_their_seeds() -> None:
    seeds = {seed_of(stream, seed, step) for stream in (DRAWS, BATCHES) for seed in range(10) for step in range(100)}
    assert len(seeds) == 2000
