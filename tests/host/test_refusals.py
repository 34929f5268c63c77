"""What does not fit is refused with a reason that says what to do."""

from __future__ import annotations

import copy
from dataclasses import replace

import comfy.supported_models
import pytest
import torch
from comfy.model_patcher import ModelPatcher
from comfyui_firstframe_pack.firstframe.bindings.comfy.adapter import apply_adapter
from comfyui_firstframe_pack.firstframe.bindings.comfy.build import build_unet, host_config
from comfyui_firstframe_pack.firstframe.bindings.comfy.first_frame import hold_first_frame
from comfyui_firstframe_pack.firstframe.bindings.comfy.motion import apply_motion
from comfyui_firstframe_pack.firstframe.bindings.comfy.retention import apply_retention
from comfyui_firstframe_pack.firstframe.errors import FramesError, ModelMismatchError, WeightsError
from comfyui_firstframe_pack.firstframe.modules.i2v_adapter import I2VAdapter
from comfyui_firstframe_pack.firstframe.modules.motion import MotionConfig, MotionModule
from comfyui_firstframe_pack.firstframe.sites import SD15, SDXL, UNetConfig
from small import (
    SMALL,
    conditioning,
    ksample,
    random_unet,
    reference,
    reference_latent,
    small_adapter,
    small_model,
    small_motion,
    small_retention,
    start_latent,
)
from torch import nn

SDXL_UNET = {
    **comfy.supported_models.SDXL.unet_config,
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "num_classes": "sequential",
    "channel_mult": [1, 2, 4],
    "num_res_blocks": [2, 2, 2],
    "transformer_depth_middle": 10,
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
    "use_spatial_transformer": True,
    "legacy": False,
    "dtype": torch.float32,
}


SD2_UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "channel_mult": [1, 2, 4, 4],
    "num_res_blocks": [2, 2, 2, 2],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "use_spatial_transformer": True,
    "num_heads": -1,
    "num_head_channels": 64,
    "legacy": False,
}


def patcher(module: nn.Module) -> ModelPatcher:
    return ModelPatcher(module, torch.device("cpu"), torch.device("cpu"))


@pytest.fixture(scope="module")
def sdxl() -> ModelPatcher:
    """SDXL in full size, without its weights."""
    description = comfy.supported_models.SDXL(SDXL_UNET)
    return patcher(description.get_model({"conditioner": None}, device=torch.device("meta")))


def test_sd15_parts_on_sdxl(sdxl: ModelPatcher) -> None:
    with torch.device("meta"):
        motion = MotionModule(MotionConfig(SD15.block_out_channels, 2, mid=False, max_frames=24))
        adapter = I2VAdapter(SD15.attention_sites, SD15.num_heads)
    with pytest.raises(ModelMismatchError, match=r"motion module .* down_3_0, .*\(SDXL\) has no such site"):
        apply_motion(sdxl, patcher(motion), 1.0, "auto")
    with pytest.raises(ModelMismatchError, match=r"I2V adapter .* down_0_0, .*\(SDXL\) has no such site"):
        apply_adapter(sdxl, patcher(adapter), 1.0)


def test_sd15_parts_on_sd2() -> None:
    """As wide as SD1.5, so that its parts would pass unnoticed."""
    settings = {**comfy.supported_models.SD20.unet_config, **SD2_UNET}
    description = comfy.supported_models.SD20(settings)
    description.set_inference_dtype(torch.float32, None)
    sd2 = patcher(description.get_model({}, device=torch.device("meta")))
    with torch.device("meta"):
        motion = MotionModule(MotionConfig(SD15.block_out_channels, 2, mid=False, max_frames=24))
        adapter = I2VAdapter(SD15.attention_sites, SD15.num_heads)
    for apply in (
        lambda: apply_motion(sd2, patcher(motion), 1.0, "auto"),
        lambda: apply_adapter(sd2, patcher(adapter), 1.0),
    ):
        with pytest.raises(ModelMismatchError, match=r"SD20.* Stable Diffusion 2: "):
            apply()


def test_sdxl_parts_on_sdxl(sdxl: ModelPatcher) -> None:
    with torch.device("meta"):
        motion = MotionModule(MotionConfig(SDXL.block_out_channels, 2, mid=False, max_frames=32))
        adapter = I2VAdapter(SDXL.attention_sites, SDXL.heads)
    applied = apply_adapter(apply_motion(sdxl, patcher(motion), 1.0, "auto"), patcher(adapter), 1.0)
    assert [part.model for part in applied.get_nested_additional_models()] == [motion, adapter]


def test_sdxl_parts_on_sd15() -> None:
    description = host_config(SD15)
    description.set_inference_dtype(torch.float32, None)
    base = patcher(description.get_model({}, device=torch.device("meta")))
    with torch.device("meta"):
        motion = MotionModule(MotionConfig(SDXL.block_out_channels, 2, mid=False, max_frames=32))
        adapter = I2VAdapter(SDXL.attention_sites, SDXL.heads)
    with pytest.raises(ModelMismatchError, match=r"motion module .* 640 channels at up_1_0, .*has 1280 channels"):
        apply_motion(base, patcher(motion), 1.0, "auto")
    with pytest.raises(ModelMismatchError, match=r"I2V adapter .* down_1_0_1, .* has no such site"):
        apply_adapter(base, patcher(adapter), 1.0)


def test_the_refiner_is_refused_by_name(sdxl: ModelPatcher) -> None:
    refiner = sdxl.clone()
    refiner.model = copy.copy(sdxl.model)
    refiner.model.model_config = comfy.supported_models.SDXLRefiner(SDXL_UNET)
    with torch.device("meta"):
        motion = MotionModule(MotionConfig(SDXL.block_out_channels, 2, mid=False, max_frames=32))
    with pytest.raises(ModelMismatchError, match=r"SDXLRefiner, SDXL's refiner: .* load an SDXL base checkpoint"):
        apply_motion(refiner, patcher(motion), 1.0, "auto")


def test_stable_diffusion_3_is_refused_by_name(sdxl: ModelPatcher) -> None:
    third = sdxl.clone()
    third.model = copy.copy(sdxl.model)
    third.model.model_config = comfy.supported_models.SD3({})
    third.model.diffusion_model = nn.Identity()
    with pytest.raises(ModelMismatchError, match=r"the model is SD3, which has no Stable Diffusion UNet"):
        apply_motion(third, small_motion(), 1.0, "auto")


def test_an_adapter_with_other_heads() -> None:
    adapter = patcher(I2VAdapter(SMALL.attention_sites, 2 * SMALL.num_heads))
    with pytest.raises(ModelMismatchError, match=r"needs 8 attention heads at down_0_0, .* has 4"):
        apply_adapter(small_model(), adapter, 1.0)


@pytest.mark.parametrize(
    ("unet", "says"),
    [
        (replace(SMALL, block_out_channels=(32, 96)), "needs 96 channels at down_1_0, .* has 64 channels"),
        (replace(SMALL, cross_attention_dim=16), "needs text embeddings of 16 channels, .* has 32"),
    ],
)
def test_a_branch_for_another_unet(unet: UNetConfig, says: str) -> None:
    prompts = apply_retention([conditioning(1), conditioning(2)], small_retention(unet), reference(), 1.0, 0.0, 1.0)
    with pytest.raises(ModelMismatchError, match=f"the retention branch was made for another model: it {says}"):
        ksample(small_model(), prompts=prompts)


def test_sd15_parts_on_sd15() -> None:
    description = host_config(SD15)
    description.set_inference_dtype(torch.float32, None)
    base = patcher(description.get_model({}, device=torch.device("meta")))
    with torch.device("meta"):
        motion = MotionModule(MotionConfig(SD15.block_out_channels, 2, mid=True, max_frames=32))
        adapter = I2VAdapter(SD15.attention_sites, SD15.num_heads)
    applied = apply_adapter(apply_motion(base, patcher(motion), 1.0, "auto"), patcher(adapter), 1.0)
    assert [part.model for part in applied.get_nested_additional_models()] == [motion, adapter]


def test_parts_of_another_width() -> None:
    with torch.device("meta"):
        motion = MotionModule(MotionConfig((64, 64), 1, mid=True, max_frames=16))
    with pytest.raises(ModelMismatchError, match=r"needs 64 channels at down_0_0, .* has 32 channels"):
        apply_motion(small_model(), patcher(motion), 1.0, "auto")


def test_a_model_that_is_no_unet() -> None:
    transformer = small_model()
    transformer.model.diffusion_model = nn.Identity()
    with pytest.raises(ModelMismatchError, match="no Stable Diffusion UNet"):
        apply_motion(transformer, small_motion(), 1.0, "auto")


def test_a_noise_schedule_that_is_no_diffusion_schedule() -> None:
    flow = small_model()
    flow.add_object_patch("model_sampling", comfy.model_sampling.ModelSamplingDiscreteFlow())
    with pytest.raises(ModelMismatchError, match='schedule "keep"'):
        apply_motion(flow, small_motion(), 1.0, "auto")
    apply_motion(flow, small_motion(), 1.0, "keep")


def test_one_frame() -> None:
    held = hold_first_frame(small_model(), reference_latent())
    with pytest.raises(FramesError, match="batch_size"):
        ksample(held, start_latent(1))
    with pytest.raises(FramesError, match="batch_size"):
        ksample(apply_adapter(small_model(), small_adapter(), 1.0), start_latent(1))


def test_a_latent_of_another_size() -> None:
    held = hold_first_frame(small_model(), reference_latent()[..., :4])
    with pytest.raises(FramesError, match="reference is 32x64 pixels, the sampled latent is 64x64"):
        ksample(held)


def test_a_reference_of_another_autoencoder() -> None:
    held = hold_first_frame(small_model(), torch.zeros(1, 16, 8, 8))
    with pytest.raises(ModelMismatchError, match="16 latent channels, the sampled latent has 4"):
        ksample(held)


def test_weights_of_another_unet() -> None:
    with pytest.raises(WeightsError, match=r"'up_blocks\.9\.stranger'"):
        build_unet(SMALL, {**random_unet(), "up_blocks.9.stranger": torch.zeros(1)})
