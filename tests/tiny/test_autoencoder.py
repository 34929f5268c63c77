"""TAESD under diffusers' names."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from safetensors.torch import save_file

from firstframe.tiny.autoencoder import from_taesd
from firstframe.tiny.config import AUTOENCODER


def test_published_names_become_those_of_diffusers(tmp_path: Path) -> None:
    """In the published files the decoder's first layer is its clamp, which has no weights."""
    torch.manual_seed(0)
    model = AutoencoderTiny(**AUTOENCODER)
    for half, offset in (("encoder", 0), ("decoder", 1)):
        published = {}
        for key, weight in getattr(model, half).layers.state_dict().items():
            layer, rest = key.split(".", 1)
            published[f"{int(layer) + offset}.{rest}"] = weight.clone()
        save_file(published, tmp_path / f"taesd_{half}.safetensors")
    found = from_taesd(tmp_path)
    assert found.keys() == model.state_dict().keys()
    assert all(torch.equal(weight, found[name]) for name, weight in model.state_dict().items())
