"""Without ComfyUI: a sampling that turns to NaN stops at that step, and names the part and its layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from firstframe.bindings.diffusers import Parts, Prompts, SamplingSettings, sample
from firstframe.clips.reference import Reference
from firstframe.errors import NotFiniteError

SETTINGS = SamplingSettings(num_frames=4, steps=4, cfg=2.0, seed=1)
PARTS = {
    "motion": ("the motion module", "sites.down_0_0.proj_out"),
    "adapter": ("the I2V adapter", "sites.down_0_0.to_out"),
    "image_tokens": ("the content adapter", "sites.down_0_0.to_v_ip"),
    "retention": ("the retention branch", "stem.conv_out"),
    "unet": ("the UNet", "mid_block.resnets.0.conv2"),
}


def turns_to_nan(layer: nn.Module, after: int) -> None:
    """From its call number ``after`` on, counted from 0, a layer computes NaN."""
    calls = iter(range(10**6))
    layer.register_forward_hook(lambda _layer, _inputs, output: output * float("nan") if next(calls) >= after else None)


@pytest.mark.parametrize("broken", PARTS)
def test_the_part_and_the_step_are_named(broken: str, unet, motion, adapter, image_tokens, retention, image) -> None:
    networks = {"motion": motion, "adapter": adapter, "image_tokens": image_tokens, "retention": retention.branch}
    prompts = Prompts(*torch.randn(2, 1, 7 + 3, 16, generator=torch.Generator().manual_seed(6)))
    reference = Reference(image, torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5)))
    name, layer = PARTS[broken]
    network: Any = unet if broken == "unet" else networks[broken]
    if broken == "retention":
        layer = next(name for name, inner in network.named_modules() if isinstance(inner, nn.Linear))
    turns_to_nan(network.get_submodule(layer), after=2)
    seen: list[int] = []

    def progress(done: int, _total: int, latents: Tensor) -> None:
        assert latents.isfinite().all()
        seen.append(done)

    with pytest.raises(NotFiniteError, match=rf"step 3 of 4 turned to .*first to compute one was {name}, in its layer"):
        sample(unet, Parts(**networks), prompts, SETTINGS, reference, latent_scale=1.0, progress=progress)
    assert seen == [1, 2]
