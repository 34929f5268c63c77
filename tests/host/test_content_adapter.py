"""The content adapter: image tokens that each conditioning carries for itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import comfy.clip_vision
import comfy.model_management
import folder_paths
import pytest
import torch
from comfy.model_patcher import ModelPatcher
from comfyui_firstframe_pack.firstframe.bindings.comfy.content_adapter import load_host_content_adapter
from comfyui_firstframe_pack.firstframe.bindings.comfy.guidance import DualGuider
from comfyui_firstframe_pack.firstframe.bindings.comfy.image_tokens import (
    apply_image_tokens,
    with_tokens,
    with_tokens_of,
)
from comfyui_firstframe_pack.firstframe.bindings.comfy.vision import encode_image
from comfyui_firstframe_pack.firstframe.bindings.comfy.weights import HOST, as_patcher
from comfyui_firstframe_pack.firstframe.clips.reference import ImageFeatures, Reference
from comfyui_firstframe_pack.firstframe.errors import ImageError, ModelMismatchError
from comfyui_firstframe_pack.firstframe.modules.image_prompt import ImageTokenAdapter, Resampler, ResamplerConfig
from comfyui_firstframe_pack.firstframe.sampling.guidance import DualGuidance
from comfyui_firstframe_pack.firstframe.weights import IMAGE_TOKENS, save
from comfyui_firstframe_pack.nodes.content import SAME_FILE, ApplyContentAdapter, LoadContentAdapter
from safetensors.torch import save_file
from small import SMALL, SMALLEST, conditioning, ksample, randomise, relative_error, small_model, start_latent
from torch import Tensor

pytestmark = pytest.mark.feature("IP-Adapter Plus through our own nodes")

FEATURES = 48
TOKENS = 5


def projections(scale: float = 1.0) -> ModelPatcher:
    sites = SMALL.attention_sites
    module = randomise(ImageTokenAdapter(sites, SMALL.cross_attention_dim, 4, TOKENS, HOST), 6)
    for parameter in module.parameters():
        parameter.data *= scale
    return as_patcher(module)


def tokens(seed: int) -> Tensor:
    return torch.randn(1, TOKENS, SMALL.cross_attention_dim, generator=torch.Generator().manual_seed(seed))


def prompts(positive: Tensor, negative: Tensor) -> list[Any]:
    return [with_tokens(conditioning(1), positive), with_tokens(conditioning(2), negative)]


def test_scale_zero_and_no_tokens_are_the_plain_model() -> None:
    base, carrying = small_model(), prompts(tokens(1), tokens(2))
    plain = ksample(base)
    assert torch.equal(ksample(apply_image_tokens(base, projections(), 0.0), prompts=carrying), plain)
    assert torch.equal(ksample(apply_image_tokens(base, projections(), 1.0)), plain)
    assert torch.equal(ksample(base, prompts=carrying), plain), "tokens say nothing to a model without projections"
    assert not torch.allclose(ksample(apply_image_tokens(base, projections(), 1.0), prompts=carrying), plain)


def test_scale_is_the_size_of_the_projections_values() -> None:
    base, carrying = small_model(), prompts(tokens(1), tokens(2))
    halved = projections()
    for site in halved.model:
        halved.model[site].to_v_ip.weight.data *= 0.5
    clips = [
        ksample(apply_image_tokens(base, one, scale), prompts=carrying)
        for one, scale in ((projections(), 0.5), (halved, 1))
    ]
    torch.testing.assert_close(*clips, rtol=1e-4, atol=1e-4)


def test_each_prompt_reads_its_own_tokens() -> None:
    model = apply_image_tokens(small_model(), projections(), 1.0)
    both = ksample(model, prompts=prompts(tokens(1), tokens(2)))
    assert not torch.allclose(ksample(model, prompts=prompts(tokens(2), tokens(1))), both)
    without_negative = [with_tokens(conditioning(1), tokens(1)), conditioning(2)]
    assert not torch.allclose(ksample(model, prompts=without_negative), both)


def test_long_prompts_do_not_reach_the_tokens() -> None:
    """Prompts of two lengths: the host lengthens the shorter one, which must not move the tokens."""
    model = apply_image_tokens(small_model(), projections(), 1.0)
    short, long = conditioning(1), conditioning(2)
    long = [[torch.cat([long[0][0], conditioning(3)[0][0]], dim=1), {}]]
    twice = [[torch.cat([short[0][0]] * 2, dim=1), {}]]
    clips = [
        ksample(model, prompts=[with_tokens(one, tokens(1)), with_tokens(long, tokens(2))]) for one in (short, twice)
    ]
    torch.testing.assert_close(*clips, rtol=1e-4, atol=1e-4)


def dual(model: ModelPatcher, positive: list[Any], negative: list[Any], image: float, text: float) -> Tensor:
    guider = DualGuider(model, DualGuidance(image, text))
    guider.set_conds(positive, negative)
    sampler = comfy.samplers.sampler_object("euler")
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", 2)
    noise = comfy.sample.prepare_noise(start_latent(), 3)
    return guider.sample(noise, start_latent(), sampler, sigmas, disable_pbar=True, seed=3)


def test_dual_guidance_separates_image_and_text() -> None:
    """No image: no tokens. The image alone: its tokens, where the negative prompt has none of them."""
    base = small_model()
    model = apply_image_tokens(base, projections(), 1.0)
    positive, negative = prompts(tokens(1), tokens(2))
    torch.testing.assert_close(
        dual(model, positive, negative, 0.0, 0.0), dual(base, conditioning(1), conditioning(2), 0.0, 0.0)
    )
    alone = dual(model, positive, negative, 1.0, 0.0)
    assert torch.equal(alone, dual(model, with_tokens_of(conditioning(2), positive), conditioning(4), 1.0, 1.0))


def test_an_adapter_of_another_model_is_refused() -> None:
    with pytest.raises(ModelMismatchError, match="content adapter"):
        apply_image_tokens(small_model(SMALLEST), projections(), 1.0)


def resampler() -> Resampler:
    return randomise(Resampler(ResamplerConfig(FEATURES, 64, SMALL.cross_attention_dim, TOKENS, depth=2)), 7)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A resampler as IP-Adapter Plus's files have it, and projections for the small model beside it."""
    state = resampler().state_dict()
    save_file({f"image_proj.{name}": tensor for name, tensor in state.items()}, tmp_path / "plus.safetensors")
    save(IMAGE_TOKENS, tmp_path / "own.safetensors", projections().model, dtype=torch.float32)
    return tmp_path / "plus.safetensors"


@pytest.mark.parametrize("layout", ["two files", "one file, as training saves it"])
def test_the_nodes_rebuild_the_chain(file: Path, layout: str) -> None:
    trained = file.with_name("trained.safetensors")
    save(IMAGE_TOKENS, trained, projections().model, {"firstframe.training": "{}"}, resampler=resampler())
    folder_paths.add_model_folder_path("ipadapter", str(file.parent))
    chosen = (file.name, "own.safetensors") if layout == "two files" else (trained.name, SAME_FILE)
    (adapter,) = LoadContentAdapter.execute(*chosen).args
    generator = torch.Generator().manual_seed(8)
    features = ImageFeatures(*torch.randn(2, 1, 9, FEATURES, generator=generator))
    reference = Reference(torch.rand(1, 3, 64, 64), features=features)
    base = small_model()
    positive, negative = conditioning(1), conditioning(2)
    model, *carrying = ApplyContentAdapter.execute(base, positive, negative, adapter, reference, 1.0).args
    comfy.model_management.unload_all_models()
    by_hand = [adapter.resampler.model(one) for one in (features.image, features.null)]
    expected = ksample(apply_image_tokens(base, projections(), 1.0), prompts=prompts(*by_hand))
    found = ksample(model, prompts=carrying)
    assert relative_error(found, expected) < (1e-4 if layout == "two files" else 1e-2), "a trained file is in fp16"
    assert positive[0][1] == {}, "the conditioning that came in stays as it was"


def test_a_reference_without_features(file: Path) -> None:
    adapter = load_host_content_adapter(file, file.with_name("own.safetensors"))
    with pytest.raises(ImageError, match="clip_vision"):
        ApplyContentAdapter.execute(
            small_model(), conditioning(1), conditioning(2), adapter, Reference(torch.rand(1, 3, 64, 64)), 1.0
        )


def test_the_image_encoder_sees_the_image_and_nothing(tmp_path: Path) -> None:
    """With the host's own class, small; "nothing" is zeros behind the normalisation."""
    config = {
        "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_hidden_layers": 3,
        "num_channels": 3, "image_size": 28, "patch_size": 14, "hidden_act": "gelu", "projection_dim": 16,
        "model_type": "clip_vision_model",
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    encoder = comfy.clip_vision.ClipVisionModel(str(tmp_path / "config.json"))
    randomise(encoder.model, 9)
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    features = encode_image(encoder, image)
    assert features.image.shape == features.null.shape == (1, 5, 32)
    mean = torch.tensor(encoder.image_mean).view(1, 3, 1, 1).expand(1, 3, 28, 28)
    of_mean = encode_image(encoder, mean.clone()).image
    torch.testing.assert_close(features.null, of_mean, rtol=0.05, atol=0.05)  # the host rounds images to 8 bits
    middle = encode_image(encoder, image[..., 16:80])
    torch.testing.assert_close(features.image, middle.image, rtol=0.1, atol=0.1)
    assert not torch.allclose(features.image, features.null, atol=0.1)
