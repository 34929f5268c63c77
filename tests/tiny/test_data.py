"""Latents, captions and crops of the rendered scenes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from firstframe.tiny.data import PATH_WEIGHT, caption_batches, frame_crops, open_latents, render_scenes
from firstframe.tiny.scenes import sample_scene, training_seed
from firstframe.tiny.text import tokenize

COUNT = 12


@pytest.fixture(scope="module")
def scenes_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("scenes") / "scenes.npy"
    render_scenes(file, COUNT)
    return file


def save_latents(file: Path, count: int) -> torch.Tensor:
    latents = torch.randn(count, 16, 4, 16, 16).half()
    save_file({"latents": latents}, file)
    return latents.transpose(1, 2)  # B C F H W


def test_latents_are_opened_forwards_and_backwards(tmp_path: Path) -> None:
    latents = save_latents(tmp_path / "latents.safetensors", 40)
    clips = open_latents(tmp_path / "latents.safetensors")
    scenes = [sample_scene(training_seed(i)) for i in range(40)]
    turned = [i for i, scene in enumerate(scenes) if scene.backward_caption is not None]
    captions = [*(scene.caption for scene in scenes), *(scenes[i].backward_caption or "" for i in turned)]
    assert torch.equal(clips.tokens, tokenize(captions))
    assert torch.equal(clips.latents, torch.cat([latents, latents[turned].flip(2)]))
    assert torch.equal(clips.weights[40:], clips.weights[turned])
    assert clips.images is None and set(clips.weights.unique().tolist()) == {1.0, PATH_WEIGHT}


def test_images_are_the_frames_that_clips_start_with(tmp_path: Path, scenes_file: Path) -> None:
    """A clip that is played backwards starts with the last frame of its scene."""
    save_latents(tmp_path / "latents.safetensors", COUNT)
    clips, scenes = open_latents(tmp_path / "latents.safetensors", scenes_file), np.load(scenes_file)
    backward = [i for i in range(COUNT) if sample_scene(training_seed(i)).backward_caption is not None]
    assert clips.images is not None and len(clips.images) == len(clips.tokens) == COUNT + len(backward)
    assert np.array_equal(clips.images[3].permute(1, 2, 0), scenes[3, 0])
    assert np.array_equal(clips.images[COUNT].permute(1, 2, 0), scenes[backward[0], -1])
    batch = clips.batches(2, 4, seed=0)(0)
    assert batch.images is not None and batch.images.shape == (2, 3, 128, 128) and batch.images.max() <= 1


def test_a_step_has_the_same_crops_and_captions_in_every_run(scenes_file: Path) -> None:
    crops = [frame_crops(np.load(scenes_file), 4, 64, seed=0)(step) for step in (5, 5, 6)]
    assert crops[0].shape == (4, 3, 64, 64) and -1 <= crops[0].min() < crops[0].max() <= 1
    assert torch.equal(crops[0], crops[1]) and not torch.equal(crops[0], crops[2])
    captions = [caption_batches(8, COUNT, 0, torch.device("cpu"))(step) for step in (5, 5, 6)]
    assert torch.equal(captions[0], captions[1]) and not torch.equal(captions[0], captions[2])
