from __future__ import annotations

import pytest
import torch
from diffusers import MotionAdapter, UNetMotionModel
from torch import Tensor, nn

from firstframe.bindings.diffusers import PartScales, inject, unet_config
from firstframe.errors import FramesError, InjectionError, ModelMismatchError
from firstframe.modules.i2v_adapter import I2VAdapter
from firstframe.modules.motion import MotionModule
from firstframe.sites import SD15, Site

FRAMES = 4


@pytest.fixture
def clips() -> Tensor:
    """Two clips of four frames as a batch."""
    return torch.randn(2 * FRAMES, 4, 8, 8, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def prompts() -> Tensor:
    """A prompt for each of the two clips."""
    return torch.randn(2, 7, 16, generator=torch.Generator().manual_seed(6))


def per_frame(prompts: Tensor) -> Tensor:
    return prompts.repeat_interleave(FRAMES, 0)


def run(unet, clips: Tensor, prompts: Tensor) -> Tensor:
    with torch.no_grad():
        return unet(clips, 401, prompts).sample


def trace(unet) -> tuple:
    """Everything that an attachment could leave behind."""
    hooks = [
        (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._forward_hooks_with_kwargs)) for m in unet.modules()
    ]
    names = [name for name, _ in unet.named_modules()]
    processors = [type(p) for p in unet.attn_processors.values()]
    return hooks, names, list(unet.state_dict()), processors, sorted(unet.__dict__)


def test_untrained_parts_change_nothing(unet, clips, prompts) -> None:
    base = run(unet, clips, per_frame(prompts))
    adapter = I2VAdapter(unet_config(unet).attention_sites, 4)
    with inject(unet, adapter=adapter, num_frames=FRAMES):
        assert torch.equal(run(unet, clips, per_frame(prompts)), base)


def test_frames_are_what_their_positions_say(unet, motion, retention, clips, prompts) -> None:
    order = torch.tensor([2, 0, 3, 1])
    shuffled = clips.unflatten(0, (2, FRAMES))[:, order].flatten(0, 1)
    with inject(unet, motion, retention=retention, num_frames=FRAMES) as injection:
        plain = run(unet, clips, prompts)
        injection.positions = order
        moved = run(unet, shuffled, prompts)
    torch.testing.assert_close(moved.unflatten(0, (2, FRAMES)), plain.unflatten(0, (2, FRAMES))[:, order])


def test_untrained_motion_changes_nothing(unet, motion, clips, prompts) -> None:
    base = run(unet, clips, per_frame(prompts))
    with inject(unet, MotionModule(motion.config), num_frames=FRAMES):
        assert torch.equal(run(unet, clips, per_frame(prompts)), base)


def test_scale_zero_changes_nothing(unet, motion, adapter, image_tokens, clips, prompts) -> None:
    base = run(unet, clips, per_frame(prompts))
    with_tokens = torch.cat([prompts, torch.ones(2, 3, 16)], 1)
    with inject(unet, motion, adapter, image_tokens, num_frames=FRAMES) as injection:
        assert not torch.allclose(run(unet, clips, per_frame(with_tokens)), base, rtol=0.1)
        injection.motion_scale = injection.adapter_scale = injection.image_token_scale = 0.0
        assert torch.equal(run(unet, clips, per_frame(with_tokens)), base)


@pytest.mark.parametrize("part", ["motion", "adapter", "image_tokens"])
def test_each_part_does_something(unet, part, clips, prompts, request) -> None:
    base = run(unet, clips, per_frame(prompts))
    with inject(unet, **{part: request.getfixturevalue(part)}, num_frames=FRAMES) as injection:
        full = run(unet, clips, per_frame(prompts))
        setattr(injection, part.removesuffix("s") + "_scale", 0.5)
        half = run(unet, clips, per_frame(prompts))
    assert not torch.allclose(full, base, rtol=0.1)
    assert not torch.allclose(full, half, rtol=0.1)


def test_attached_and_detached_twice(unet, motion, adapter, image_tokens, clips, prompts) -> None:
    before, base = trace(unet), run(unet, clips, per_frame(prompts))
    for _ in range(2):
        injection = inject(unet, motion, adapter, image_tokens, num_frames=FRAMES)
        assert trace(unet)[1:4] == before[1:4]
        injection.eject()
        injection.eject()
    assert trace(unet) == before
    assert torch.equal(run(unet, clips, per_frame(prompts)), base)


def test_attaching_twice_is_an_error(unet, motion) -> None:
    first = inject(unet, motion, num_frames=FRAMES)
    with pytest.raises(InjectionError, match="eject"):
        inject(unet, motion, num_frames=FRAMES)
    first.eject()
    inject(unet, motion, num_frames=FRAMES).eject()


def test_an_error_inside_detaches(unet, motion, clips, prompts) -> None:
    before = trace(unet)
    with pytest.raises(FramesError, match="batch of 7"), inject(unet, motion, num_frames=FRAMES):
        run(unet, clips[:7], prompts)
    assert trace(unet) == before


def test_a_refused_attachment_leaves_no_trace(unet, motion) -> None:
    before = trace(unet)
    with pytest.raises(FramesError, match="9 frames"):
        inject(unet, motion, num_frames=9)
    assert trace(unet) == before


def test_one_prompt_for_a_clip(unet, motion, adapter, image_tokens, clips, prompts) -> None:
    with inject(unet, motion, adapter, image_tokens, num_frames=FRAMES):
        each = run(unet, clips, per_frame(prompts))
        torch.testing.assert_close(run(unet, clips, prompts), each, rtol=1e-4, atol=1e-5)


def test_frames_see_the_first_and_no_other(unet, adapter, clips, prompts) -> None:
    changed = {}
    with inject(unet, adapter=adapter, num_frames=FRAMES):
        base = run(unet, clips, prompts)
        for frame in (0, 2):
            other = clips.clone()
            other[frame] += 1.0
            difference = (run(unet, other, prompts) - base).flatten(1).abs().amax(1)
            changed[frame] = difference.gt(1e-4).nonzero().flatten().tolist()
    assert changed == {0: [0, 1, 2, 3], 2: [2]}


def test_clips_do_not_mix(unet, motion, adapter, image_tokens, clips, prompts) -> None:
    with inject(unet, motion, adapter, image_tokens, num_frames=FRAMES):
        both = run(unet, clips, prompts)
        torch.testing.assert_close(run(unet, clips[FRAMES:], prompts[1:]), both[FRAMES:], rtol=1e-4, atol=1e-5)


def test_adapter_reads_through_the_layers_of_the_base(unet, adapter, clips, prompts) -> None:
    """A change of the base's own to_v (a LoRA, say) is seen by the adapter."""
    to_v = unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_v
    before = {}
    for scale in (0.0, 1.0):
        with inject(unet, adapter=adapter, num_frames=FRAMES, scales=PartScales(adapter=scale)):
            plain = run(unet, clips, prompts)
            handle = to_v.register_forward_hook(lambda module, args, output: output + 0.5)
            before[scale] = run(unet, clips, prompts) - plain
            handle.remove()
    assert not torch.allclose(before[0.0], before[1.0], rtol=0.1, atol=1e-4)


def test_pooled_norms(unet, make_motion, clips, prompts) -> None:
    still = clips[:1].repeat(FRAMES, 1, 1, 1)
    pooled = MotionModule(make_motion(pooled_unet_norms=True).config)
    base = run(unet, clips[:FRAMES], per_frame(prompts)[:FRAMES])
    with inject(unet, pooled, num_frames=FRAMES):
        moving = run(unet, clips[:FRAMES], prompts[:1])
        standing = run(unet, still, prompts[:1])
    torch.testing.assert_close(standing, run(unet, still, prompts[:1].repeat(FRAMES, 1, 1)), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(moving, base, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("mid", [True, False])
def test_equals_the_motion_unet_of_diffusers(unet, make_motion, diffusers_names, clips, prompts, mid: bool) -> None:
    motion = make_motion(mid=mid, norm_over_frames=True)
    theirs = MotionAdapter(
        block_out_channels=(32, 64),
        motion_layers_per_block=1,
        motion_mid_block_layers_per_block=1,
        motion_num_attention_heads=4,
        motion_max_seq_length=8,
        use_motion_mid_block=mid,
    )
    theirs.load_state_dict(
        {
            f"{site.diffusers('motion_modules')}.{name}": tensor
            for site in motion
            for name, tensor in diffusers_names(motion[site].state_dict()).items()
        }
    )
    motion_unet = UNetMotionModel.from_unet2d(unet, theirs).eval()
    with inject(unet, motion, num_frames=FRAMES):
        ours = run(unet, clips, prompts)
    as_clip = clips.unflatten(0, (2, FRAMES)).transpose(1, 2)
    expected = run(motion_unet, as_clip, per_frame(prompts)).transpose(1, 2).flatten(0, 1)
    assert (ours - expected).norm() / expected.norm() < 1e-5


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_reach_every_weight(unet, motion, adapter, clips, prompts, checkpointing: bool) -> None:
    if checkpointing:
        unet.enable_gradient_checkpointing()
        unet.train()
    with inject(unet, motion, adapter, num_frames=FRAMES):
        unet(clips, 401, prompts).sample.square().mean().backward()
    for part in (motion, adapter):
        for name, parameter in part.named_parameters():
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    assert all(parameter.grad is None for parameter in unet.parameters())


def test_gradients_of_an_untrained_adapter(unet, clips, prompts) -> None:
    adapter = I2VAdapter(unet_config(unet).attention_sites, 4)
    with inject(unet, adapter=adapter, num_frames=FRAMES):
        unet(clips, 401, prompts).sample.square().mean().backward()
    assert all(adapter[site].to_out.weight.grad.abs().sum() > 0 for site in adapter)


def test_one_frame_is_refused(unet, adapter) -> None:
    with pytest.raises(FramesError, match="two frames"):
        inject(unet, adapter=adapter, num_frames=1)


def test_parts_of_another_model_are_refused(unet, make_motion, image_tokens) -> None:
    with pytest.raises(ModelMismatchError, match=r"motion module.*64 wide at down_0_0.*32 wide"):
        inject(unet, make_motion(block_out_channels=(64, 64)), num_frames=FRAMES)
    with pytest.raises(ModelMismatchError, match=r"motion module.*down_0_1.*no such place"):
        inject(unet, make_motion(layers_per_block=2), num_frames=FRAMES)
    with pytest.raises(ModelMismatchError, match=r"I2V adapter.*320 wide at down_0_0"):
        inject(unet, adapter=I2VAdapter(SD15.attention_sites, 8), num_frames=FRAMES)
    with pytest.raises(ModelMismatchError, match="8 attention heads at down_0_0, the UNet has 4"):
        inject(unet, adapter=I2VAdapter({Site("down", 0, 0): 32}, 8), num_frames=FRAMES)
    image_tokens.heads = dict.fromkeys(image_tokens, 2)
    with pytest.raises(ModelMismatchError, match="image token"):
        inject(unet, image_tokens=image_tokens, num_frames=FRAMES)


def test_a_model_of_another_type_is_refused(make_unet, motion) -> None:
    unet = make_unet(
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4),
        transformer_layers_per_block=(1, 2),
    )
    with pytest.raises(ModelMismatchError, match=r"Stable Diffusion 1\.5"):
        inject(unet, motion, num_frames=FRAMES)


def test_an_adapter_for_some_sites_only(unet, clips, prompts) -> None:
    part = I2VAdapter({Site("mid", 0, 0): 64}, 4)
    nn.init.normal_(part[Site("mid", 0, 0)].to_out.weight)
    base = run(unet, clips, per_frame(prompts))
    with inject(unet, adapter=part, num_frames=FRAMES):
        assert not torch.allclose(run(unet, clips, per_frame(prompts)), base, atol=1e-3)
