from __future__ import annotations

import pytest
import torch
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D

from firstframe.errors import FramesError
from firstframe.modules.motion import MotionConfig, MotionModule
from firstframe.sites import SD15, Site

CONFIG = MotionConfig((32, 64), 1, mid=True, max_frames=8, num_heads=4)
SITE = Site("down", 0, 0)


def random_module(config: MotionConfig, generator: torch.Generator) -> MotionModule:
    module = MotionModule(config)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.2, generator=generator)
    return module


def test_untrained_changes_nothing(generator: torch.Generator) -> None:
    x = torch.randn(1, 32, 4, 3, 3, generator=generator)
    assert torch.equal(MotionModule(CONFIG)(SITE, x), x)


def test_scale_zero_is_the_input_itself(generator: torch.Generator) -> None:
    x = torch.randn(1, 32, 4, 3, 3, generator=generator)
    module = random_module(CONFIG, generator)
    assert module(SITE, x, scale=0.0) is x
    torch.testing.assert_close(module(SITE, x, scale=0.5), (x + module(SITE, x)) / 2)


def test_more_frames_than_positions(generator: torch.Generator) -> None:
    module = random_module(CONFIG, generator)
    module(SITE, torch.randn(1, 32, 8, 2, 2))
    with pytest.raises(FramesError, match=r"9 frames.*positions for 8"):
        module(SITE, torch.randn(1, 32, 9, 2, 2))


def test_frames_are_what_their_positions_say(generator: torch.Generator) -> None:
    module, order = random_module(CONFIG, generator), torch.tensor([2, 0, 3, 1])
    x = torch.randn(1, 32, 4, 3, 3, generator=generator)
    plain = module(SITE, x)
    assert torch.equal(module(SITE, x, positions=torch.arange(4)), plain)
    torch.testing.assert_close(module(SITE, x[:, :, order], positions=order), plain[:, :, order])
    assert not torch.allclose(module(SITE, x[:, :, order]), plain[:, :, order], atol=1e-3)


def test_frames_of_a_longer_clip(generator: torch.Generator) -> None:
    """Where attention sees frames 0, 5 and 7 alone, they are still frames 0, 5 and 7."""
    module, positions = random_module(CONFIG, generator), torch.tensor([0, 5, 7])
    x = torch.randn(1, 32, 3, 2, 2, generator=generator)
    moved = module(SITE, x, positions=positions)
    for attention in module[SITE].attentions:
        attention.pe = attention.pe[:, positions]
    assert torch.equal(module(SITE, x), moved)


def test_clips_do_not_mix(generator: torch.Generator) -> None:
    module = random_module(CONFIG, generator)
    x = torch.randn(2, 32, 4, 3, 3, generator=generator)
    torch.testing.assert_close(module(SITE, x)[1:], module(SITE, x[1:]))


def test_sizes_of_the_published_modules() -> None:
    for mid, tensors, millions in [(False, 560, 417.14), (True, 588, 453.21)]:
        config = MotionConfig(SD15.block_out_channels, 2, mid=mid, max_frames=24)
        with torch.device("meta"):
            module = MotionModule(config)
        assert len(module.state_dict()) == tensors
        assert round(sum(p.numel() for p in module.parameters()) / 1e6, 2) == millions


def test_equals_diffusers(diffusers_names, generator: torch.Generator) -> None:
    config = MotionConfig((32,), 1, mid=False, max_frames=8, num_heads=4, norm_over_frames=True)
    module = random_module(config, generator)
    theirs = AnimateDiffTransformer3D(
        num_attention_heads=4,
        attention_head_dim=8,
        in_channels=32,
        norm_num_groups=32,
        activation_fn="geglu",
        attention_bias=False,
        positional_embeddings="sinusoidal",
        num_positional_embeddings=8,
        double_self_attention=True,
    )
    theirs.load_state_dict(diffusers_names(module[SITE].state_dict()))
    x = torch.randn(2, 32, 6, 4, 4, generator=generator)
    ours = module(SITE, x).transpose(1, 2).flatten(0, 1)
    with torch.no_grad():
        expected = theirs(x.transpose(1, 2).flatten(0, 1), num_frames=6)
    assert (ours - expected).norm() / expected.norm() < 1e-5


def test_norm_is_per_frame_unless_told(generator: torch.Generator) -> None:
    per_frame = random_module(CONFIG, generator)
    pooled = MotionModule(MotionConfig((32, 64), 1, True, 8, 4, norm_over_frames=True))
    pooled.load_state_dict(per_frame.state_dict())
    x = torch.randn(1, 32, 4, 3, 3, generator=generator)
    x[:, :, 2] *= 5.0
    assert not torch.allclose(per_frame(SITE, x), pooled(SITE, x), rtol=1e-2)
