"""The frame retention branch by itself, and as a copy of a UNet's down blocks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from firstframe.bindings.diffusers import inject, unet_config
from firstframe.errors import FramesError, ModelMismatchError
from firstframe.modules.motion import MotionConfig, MotionModule
from firstframe.modules.retention import RetentionBranch, RetentionConfig
from firstframe.sites import SD15, UNetConfig

FRAMES = 3
SMALL = UNetConfig((32, 64), 2, (True, False), 4, 24)


def retention_config(unet: UNetConfig) -> RetentionConfig:
    motion = MotionConfig(unet.block_out_channels, unet.layers_per_block, mid=False, max_frames=8, num_heads=4)
    return RetentionConfig(unet, motion, stem_channels=(4, 4, 8, 8))


@pytest.fixture
def unet() -> UNet2DConditionModel:
    torch.manual_seed(1)
    return UNet2DConditionModel(
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=24,
        attention_head_dim=4,
    ).eval()


@pytest.fixture
def motion() -> MotionModule:
    return filled(MotionModule(retention_config(SMALL).motion))


def filled(module: nn.Module, seed: int = 2) -> nn.Module:
    """With random weights everywhere, where untrained ones would be zero."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.1, generator=generator)
    return module.eval()


@pytest.fixture
def inputs(generator: torch.Generator) -> dict[str, Tensor]:
    return {
        "noisy": torch.randn(2, 4, FRAMES, 8, 8, generator=generator),
        "timestep": torch.tensor([601, 20]),
        "text": torch.randn(2, 5, 24, generator=generator),
        "features": torch.randn(2, 8, 8, 8, generator=generator),
    }


def skips_of(unet: UNet2DConditionModel, noisy: Tensor, timestep: Tensor, text: Tensor) -> list[Tensor]:
    """What the UNet's own down path hands to its up path."""
    skips: list[Tensor] = []
    handles = [unet.conv_in.register_forward_hook(lambda _, __, out: skips.append(out))]
    handles += [block.register_forward_hook(lambda _, __, out: skips.extend(out[1])) for block in unet.down_blocks]
    images = noisy.movedim(2, 1).flatten(0, 1)
    unet(images, timestep.repeat_interleave(noisy.shape[2]), text.repeat_interleave(noisy.shape[2], 0))
    for handle in handles:
        handle.remove()
    return skips


@torch.no_grad()
def test_it_starts_as_a_copy_of_the_down_blocks(
    unet: UNet2DConditionModel, motion: MotionModule, inputs: dict[str, Tensor]
) -> None:
    branch = RetentionBranch(retention_config(unet_config(unet)))
    branch.copy_base(unet.state_dict(), motion)
    for projection in branch.projections:
        nn.init.dirac_(projection.weight)  # shows what would be projected
    with inject(unet, motion, num_frames=FRAMES):
        expected = skips_of(unet, inputs["noisy"], inputs["timestep"], inputs["text"])
    found = branch(**inputs)
    assert [skip.shape for skip in found] == [skip.shape for skip in expected]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_untrained_it_answers_zero(unet: UNet2DConditionModel, motion: MotionModule, inputs: dict[str, Tensor]) -> None:
    branch = RetentionBranch(retention_config(SMALL))
    branch.copy_base(unet.state_dict(), motion)
    assert all(residual.eq(0).all() for residual in branch(**inputs))


@torch.no_grad()
def test_a_text_for_each_frame_is_the_same_as_one_for_all(inputs: dict[str, Tensor]) -> None:
    branch = filled(RetentionBranch(retention_config(SMALL)))
    for one, many in zip(
        branch(**inputs), branch(**{**inputs, "text": inputs["text"].repeat_interleave(FRAMES, 0)}), strict=True
    ):
        torch.testing.assert_close(one, many)


@torch.no_grad()
def test_clips_of_a_batch_do_not_meet(inputs: dict[str, Tensor]) -> None:
    branch = filled(RetentionBranch(retention_config(SMALL)))
    together = branch(**inputs)
    alone = branch(**{name: tensor[1:] for name, tensor in inputs.items()})
    for both, second in zip(together, alone, strict=True):
        torch.testing.assert_close(both[FRAMES:], second, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_it_sees_the_image(generator: torch.Generator, inputs: dict[str, Tensor]) -> None:
    branch = filled(RetentionBranch(retention_config(SMALL)))
    images = torch.rand(2, 3, 64, 64, generator=generator)
    features = branch.encode(images)
    assert features.shape == (2, 8, 8, 8)
    seen = branch(**{**inputs, "features": features})
    other = branch(**{**inputs, "features": branch.encode(1 - images)})
    assert all((a - b).abs().max() > 1e-4 for a, b in zip(seen, other, strict=True))


def test_gradients_reach_the_projections_first(inputs: dict[str, Tensor]) -> None:
    branch = RetentionBranch(retention_config(SMALL))
    sum(residual.sum() for residual in branch(**inputs)).backward()  # type: ignore[union-attr]
    assert all(p.weight.grad is not None and p.weight.grad.abs().max() > 0 for p in branch.projections)


def test_full_size_in_the_same_code() -> None:
    motion = MotionConfig(SD15.block_out_channels, SD15.layers_per_block, mid=False, max_frames=32)
    config = RetentionConfig(SD15, motion)
    with torch.device("meta"):
        branch = RetentionBranch(config)
    assert config.residual_channels == (320, 320, 320, 320, 640, 640, 640, 1280, 1280, 1280, 1280, 1280)
    assert [projection.weight.shape[0] for projection in branch.projections] == list(config.residual_channels)


def test_a_base_that_does_not_fit(unet: UNet2DConditionModel, motion: MotionModule) -> None:
    wide = replace(SMALL, cross_attention_dim=48)
    with pytest.raises(ModelMismatchError, match=r"attn2\.to_k\.weight"):
        RetentionBranch(retention_config(wide)).copy_base(unet.state_dict(), motion)
    with pytest.raises(ModelMismatchError, match=r"has no down_blocks\.1\.downsamplers"):
        deeper = replace(SMALL, block_out_channels=(32, 64, 64), attention=(True, False, False))
        RetentionBranch(retention_config(deeper)).copy_base(
            unet.state_dict(), filled(MotionModule(retention_config(deeper).motion))
        )


def test_too_many_frames_or_another_size(inputs: dict[str, Tensor]) -> None:
    branch = RetentionBranch(retention_config(SMALL))
    with pytest.raises(FramesError, match="9 frames"):
        branch(torch.randn(1, 4, 9, 8, 8), torch.tensor([1]), inputs["text"][:1], inputs["features"][:1])
    with pytest.raises(FramesError, match="64x32 pixels"):
        branch(**{**inputs, "features": torch.randn(2, 8, 4, 8)})


def test_frames_are_what_their_positions_say(inputs) -> None:
    branch, order = filled(RetentionBranch(retention_config(SMALL))), torch.tensor([2, 0, 1])
    shuffled = branch(**{**inputs, "noisy": inputs["noisy"][:, :, order]}, positions=order)
    for ours, plain in zip(shuffled, branch(**inputs), strict=True):
        torch.testing.assert_close(ours.unflatten(0, (2, FRAMES)), plain.unflatten(0, (2, FRAMES))[:, order])
