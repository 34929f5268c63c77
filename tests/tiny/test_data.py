"""Latents and captions of the training scenes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from firstframe.tiny import data
from firstframe.tiny.autoencoder import open_autoencoder
from firstframe.tiny.data import PATH_WEIGHT, caption_batches, encode_scenes, open_latents
from firstframe.tiny.files import weights_file
from firstframe.tiny.scenes import BUILT_IN, render, training_scene
from firstframe.tiny.text import tokenize

COUNT = 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files of random numbers in place of encoded scenes."""
    torch.manual_seed(0)
    for shard in range(2):
        size = COUNT // 2
        save_file(
            {
                "latents": torch.randn(size, 16, 4, 16, 16).half(),
                "ends": torch.randint(255, (size, 2, 128, 128, 3), dtype=torch.uint8),
                "path": torch.rand(size, 16, 16) > 0.5,
            },
            tmp_path / f"{shard:05}.safetensors",
        )
    return tmp_path


def turned() -> list[int]:
    return [i for i in range(COUNT) if training_scene(i).backward_caption is not None]


def test_latents_are_opened_forwards_and_backwards(folder: Path) -> None:
    clips = open_latents(folder)
    latents = torch.cat([load_file(file)["latents"] for file in sorted(folder.iterdir())]).transpose(1, 2)
    scenes = [training_scene(i) for i in range(COUNT)]
    captions = [*(scene.caption for scene in scenes), *(scenes[i].backward_caption or "" for i in turned())]
    assert torch.equal(clips.tokens, tokenize(captions))
    assert torch.equal(clips.latents, torch.cat([latents, latents[turned()].flip(2)]))
    assert torch.equal(clips.weights[COUNT:], clips.weights[turned()])
    assert clips.images is None and set(clips.weights.unique().tolist()) == {1.0, PATH_WEIGHT}


def test_images_are_the_frames_that_clips_start_with(folder: Path) -> None:
    """A clip that is played backwards starts with the last frame of its scene."""
    clips = open_latents(folder, images=True)
    ends = torch.cat([load_file(file)["ends"] for file in sorted(folder.iterdir())])
    assert clips.images is not None and len(clips.images) == len(clips.tokens) == COUNT + len(turned())
    assert torch.equal(clips.images[3].permute(1, 2, 0), ends[3, 0])
    assert torch.equal(clips.images[COUNT].permute(1, 2, 0), ends[turned()[0], 1])
    batch = clips.batches(2, 4, seed=0)(0)
    assert batch.images is not None and batch.images.shape == (2, 3, 128, 128) and batch.images.max() <= 1


def test_scenes_are_encoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "SHARD", 1)
    model = open_autoencoder(weights_file("autoencoder"))
    encode_scenes(tmp_path, 2, BUILT_IN, model)
    first, second = (load_file(tmp_path / f"0000{index}.safetensors") for index in range(2))
    frames = torch.from_numpy(render(training_scene(1), with_flow=False).frames)
    assert torch.equal(second["ends"][0], frames[[0, -1]]) and not torch.equal(first["ends"], second["ends"])
    with torch.inference_mode():
        expected = model.encode(frames[:1].permute(0, 3, 1, 2).float() / 127.5 - 1).latents
    assert (second["latents"][0, :1].float() - expected).abs().mean() < 0.03
    assert second["path"].shape == (1, 16, 16)
    encode_scenes(tmp_path, 2, BUILT_IN, None)  # type: ignore[arg-type]  # nothing is left to encode


def test_a_step_has_the_same_captions_in_every_run() -> None:
    captions = [caption_batches(8, COUNT, 0, torch.device("cpu"))(step) for step in (5, 5, 6)]
    assert torch.equal(captions[0], captions[1]) and not torch.equal(captions[0], captions[2])
