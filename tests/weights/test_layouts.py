from __future__ import annotations

import pytest
import torch

from firstframe.errors import WeightsError
from firstframe.modules.i2v_adapter import I2VAdapter
from firstframe.modules.image_prompt import ImageTokenAdapter, Resampler, ResamplerConfig
from firstframe.modules.motion import MotionConfig, MotionModule
from firstframe.modules.retention import RetentionBranch, RetentionConfig
from firstframe.sites import SD15, SDXL
from firstframe.weights import LAYOUTS, Layout, detect_layout
from firstframe.weights.keymaps import to_theirs

BY_NAME = {layout.name: layout for layout in LAYOUTS}


def example(layout: Layout) -> dict[str, torch.Tensor]:
    """A state dict under our own names, with SD1.5's or SDXL's sites and no memory behind it."""
    kind = layout.kind
    with torch.device("meta"):
        if kind == "i2v_adapter":
            own_projections = layout.name == "unofficial I2V-Adapter"
            return I2VAdapter(SD15.attention_sites, 8, own_projections=own_projections).state_dict()
        if kind == "resampler":
            return Resampler(ResamplerConfig()).state_dict()
        if kind == "image_tokens":
            unet = SDXL if "SDXL" in layout.name else SD15
            return ImageTokenAdapter(unet.attention_sites, unet.cross_attention_dim, unet.heads).state_dict()
        motion = MotionConfig((SDXL if layout.name == "Hotshot-XL" else SD15).block_out_channels, 2, True, 32)
        if kind == "motion_lora":
            layers = [f"sites.{site.key}.attentions.0.to_q" for site in motion.sites]
            return {f"{layer}.lora_{half}.weight": torch.zeros(1) for layer in layers for half in ("up", "down")}
        if kind == "retention":
            return RetentionBranch(RetentionConfig(SD15, motion)).state_dict()
        return MotionModule(motion).state_dict()


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_exactly_one_layout_fires(layout) -> None:
    state = example(layout)
    names = to_theirs(state, layout.keymap) if layout.keymap else state
    assert [other for other in LAYOUTS if other.fires(names)] == [layout]
    assert detect_layout(names, layout.kind) is layout


def test_none_fires_on_a_stranger() -> None:
    names = ["model.diffusion_model.input_blocks.0.0.weight", "lora_unet_mid.alpha"]
    assert not any(layout.fires(names) for layout in LAYOUTS)
    with pytest.raises(WeightsError, match=r"motion module was expected.*lora_unet_mid\.alpha"):
        detect_layout(names, "motion_module")


def test_the_wrong_kind_is_named() -> None:
    with pytest.raises(WeightsError, match=r"I2V adapter was expected.*FirstFrame motion module"):
        detect_layout(example(BY_NAME["FirstFrame motion module"]), "i2v_adapter")


def test_an_empty_file() -> None:
    with pytest.raises(WeightsError, match="none"):
        detect_layout([], "i2v_adapter")
