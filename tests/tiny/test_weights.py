"""The files that ship."""

from __future__ import annotations

import json

import pytest
import torch

from firstframe.modules.motion import sinusoidal_positions
from firstframe.tiny.autoencoder import LICENCE, SOURCE
from firstframe.tiny.files import PARTS, weights_file
from firstframe.tiny.model import load_tiny
from firstframe.tiny.style import with_look
from firstframe.weights import load_metadata, load_state_dict


def test_all_together_at_most_25_megabytes() -> None:
    assert sum(weights_file(part).stat().st_size for part in PARTS) <= 25e6


@pytest.mark.parametrize("part", PARTS)
def test_half_precision_finite_and_with_their_story(part: str) -> None:
    for name, tensor in load_state_dict(weights_file(part)).items():
        assert tensor.dtype == (torch.float32 if name.endswith(".pe") else torch.float16), name
        assert tensor.isfinite().all(), name
    told = load_metadata(weights_file(part))
    if part == "autoencoder":
        assert told == {"firstframe.source": SOURCE, "firstframe.licence": LICENCE}
        return
    stages = json.loads(told["firstframe.training"])
    assert stages and all(stage["steps"] > 0 and stage["last_loss"] > 0 for stage in stages)


def test_loads_ready_to_use() -> None:
    model = load_tiny()
    parts = (model.autoencoder, model.text_encoder, model.unet, model.motion, model.adapter, model.retention)
    for part in parts:
        assert not part.training
        assert all(w.dtype == torch.float32 and not w.requires_grad for w in part.parameters())


@pytest.mark.parametrize("part", ["motion_module", "retention"])
def test_frames_are_at_their_places(part: str) -> None:
    positions = {name: pe for name, pe in load_state_dict(weights_file(part)).items() if name.endswith(".pe")}
    assert positions
    for name, pe in positions.items():
        assert torch.allclose(pe.float(), sinusoidal_positions(*pe.shape[1:]), atol=1e-3), name


def test_another_look_is_another_unet() -> None:
    model = load_tiny()
    before = {name: weight.clone() for name, weight in model.unet.state_dict().items()}
    tuned = with_look(model)
    assert tuned.motion is model.motion and tuned.adapter is model.adapter
    assert all(torch.equal(weight, before[name]) for name, weight in model.unet.state_dict().items())
    assert not torch.equal(tuned.unet.conv_in.weight, before["conv_in.weight"])


def test_round_trip_keeps_the_image() -> None:
    from firstframe.clips.metrics import ssim
    from firstframe.tiny.scenes import render, sample_scene

    model = load_tiny()
    frames = torch.from_numpy(render(sample_scene(1), num_frames=2).frames).float() / 255
    decoded = model.decode(model.encode(frames.movedim(-1, 1))).movedim(1, -1)
    assert ssim(decoded, frames) > 0.85
