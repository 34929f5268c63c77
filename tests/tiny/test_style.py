"""The other look: its images, and a LoRA that is trained beside a UNet and merged into it."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from firstframe.errors import WeightsError
from firstframe.tiny.config import UNET
from firstframe.tiny.scenes import dusk, render, sample_scene
from firstframe.tiny.style import with_lora
from firstframe.tiny.style_lora import add_lora, lora_weights
from firstframe.weights import save_state_dict


def test_dusk_is_darker_and_violet_and_keeps_the_image() -> None:
    frames = render(sample_scene(1), num_frames=2).frames
    tinted = dusk(frames)
    assert tinted.shape == frames.shape and tinted.dtype == np.uint8
    red, green, blue = (tinted.astype(float) - frames).mean((0, 1, 2))
    assert green < min(red, blue) - 20
    for channel in range(3):
        before, after = frames[:, 64, :, channel].ravel(), tinted[:, 64, :, channel].ravel()
        assert np.corrcoef(before, after)[0, 1] > 0.99


def test_a_merged_lora_does_what_it_did_beside_the_unet(tmp_path: Path) -> None:
    base = UNet2DConditionModel(**UNET | {"layers_per_block": 1}).eval()
    trained = deepcopy(base)
    add_lora(trained)
    for name, weight in trained.named_parameters():
        assert weight.requires_grad == ("lora" in name)
        if "lora" in name:
            nn.init.normal_(weight, std=0.05)
    noisy, text = torch.randn(2, 4, 8, 8), torch.randn(2, 5, 128)
    with torch.no_grad():
        save_state_dict(tmp_path / "look.safetensors", lora_weights(trained), {})
        merged_unet = with_lora(base, tmp_path / "look.safetensors")
        before, merged, beside = (unet(noisy, 500, text).sample for unet in (base, merged_unet, trained))
    assert (merged - before).abs().max() > 0.1
    assert torch.allclose(merged, beside, atol=1e-4)


def test_a_lora_for_another_unet(tmp_path: Path) -> None:
    unet = UNet2DConditionModel(**UNET | {"layers_per_block": 1})
    larger = UNet2DConditionModel(**UNET | {"layers_per_block": 2})
    add_lora(larger)
    save_state_dict(tmp_path / "look.safetensors", lora_weights(larger), {})
    with pytest.raises(WeightsError, match="lora_unet_"):
        with_lora(unet, tmp_path / "look.safetensors")
