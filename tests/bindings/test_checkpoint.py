"""Checkpoints of the Stable Diffusion 1.5 type from single files in the published layouts."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import save_file
from torch import Tensor

from firstframe.bindings.diffusers import unet_config
from firstframe.bindings.diffusers.checkpoint import load_checkpoint
from firstframe.bindings.diffusers.clip_vocabulary import END, START, tokenize
from firstframe.errors import WeightsError
from firstframe.sites import SD15, SDXL, UNetConfig
from firstframe.weights.unet_names import unet_tensors
from firstframe.weights.unet_shape import read_unet_config

sys.path.insert(0, str(Path(__file__).parents[1]))  # for what the tests share
from small_checkpoint import (
    SMALL_XL,
    NetworksXL,
    diffusers_checkpoint,
    ldm_checkpoint,
    sdxl_checkpoint,
    sdxl_in_diffusers_names,
    small_networks,
    small_sdxl_networks,
)
from synthetic import shapes

PROMPT = "a red fish swims to the left"


@pytest.fixture(scope="module")
def networks() -> tuple:
    return small_networks()


@pytest.fixture(scope="module")
def published(networks: tuple) -> dict[str, Tensor]:
    return ldm_checkpoint(networks)


def pickled(tensors: dict[str, Tensor], path: Path) -> Path:
    torch.save({"state_dict": tensors}, path.with_suffix(".ckpt"))
    return path.with_suffix(".ckpt")


def saved(tensors: dict[str, Tensor], path: Path) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return path


def short_text_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.replace("transformer.text_model.", "transformer."): tensor for name, tensor in tensors.items()}


LAYOUTS: dict[str, Callable[[tuple, Path], Path]] = {
    "LDM": lambda networks, path: saved(ldm_checkpoint(networks), path),
    "LDM, pickled": lambda networks, path: pickled(ldm_checkpoint(networks), path),
    "LDM, text_model left out": lambda networks, path: saved(short_text_names(ldm_checkpoint(networks)), path),
    "diffusers": lambda networks, path: saved(diffusers_checkpoint(networks), path),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_the_same_model(networks: tuple, tmp_path: Path, layout: str) -> None:
    unet, vae, text = networks
    loaded = load_checkpoint(LAYOUTS[layout](networks, tmp_path / "model.safetensors"))
    generator = torch.Generator().manual_seed(0)
    latents, states = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 77, 64, generator=generator)
    assert torch.equal(loaded.unet(latents, 500, states).sample, unet(latents, 500, states).sample)
    assert torch.equal(loaded.encode_text([PROMPT]).states, text(tokenize(PROMPT)).last_hidden_state)
    images = torch.rand(1, 3, 16, 16, generator=generator)
    assert torch.equal(loaded.encode(images), vae.encode(images * 2 - 1).latent_dist.mode())
    decoded = (vae.decode(latents).sample / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(loaded.decode(latents), decoded)
    assert loaded.latent_scale == vae.config.scaling_factor == 0.18215
    assert unet_config(loaded.unet) == unet_config(unet)


def test_the_type_asked_for(published: dict[str, Tensor], tmp_path: Path) -> None:
    loaded = load_checkpoint(saved(published, tmp_path / "model.safetensors"), dtype=torch.bfloat16)
    assert (loaded.unet.dtype, loaded.text_encoders[0].dtype, loaded.vae.dtype) == (
        torch.bfloat16, torch.bfloat16, torch.float32
    )  # fmt: skip
    assert loaded.encode_text([PROMPT]).states.dtype is torch.bfloat16
    assert not any(parameter.requires_grad for parameter in loaded.unet.parameters())


def test_a_checkpoint_that_predicts_v(published: dict[str, Tensor], tmp_path: Path) -> None:
    marked = published | {"v_pred": torch.zeros(0)}
    assert load_checkpoint(saved(marked, tmp_path / "v.safetensors")).prediction_type == "v_prediction"
    assert load_checkpoint(saved(published, tmp_path / "eps.safetensors")).prediction_type == "epsilon"


def test_a_vae_of_its_own(published: dict[str, Tensor], tmp_path: Path) -> None:
    _, other, _ = small_networks(seed=1)
    bare = {
        name.removeprefix("first_stage_model."): tensor
        for name, tensor in ldm_checkpoint((*small_networks()[:1], other, small_networks()[2])).items()
        if name.startswith("first_stage_model.")
    }
    vae = saved(bare | {"loss.logvar": torch.zeros(())}, tmp_path / "vae.safetensors")
    loaded = load_checkpoint(saved(published, tmp_path / "model.safetensors"), vae=vae)
    assert torch.equal(loaded.vae.decoder.conv_in.weight, other.decoder.conv_in.weight)


def test_taesd(published: dict[str, Tensor], tmp_path: Path) -> None:
    tiny = AutoencoderTiny().eval()
    names = {name: name.split(".") for name in tiny.state_dict()}
    theirs = {
        f"taesd_{half}.{int(layer) + (half == 'decoder')}.{'.'.join(rest)}": tiny.state_dict()[name]
        for name, (half, _, layer, *rest) in names.items()
    }
    vae = saved(theirs, tmp_path / "taesd.safetensors")
    loaded = load_checkpoint(saved(published, tmp_path / "model.safetensors"), vae=vae)
    images = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(loaded.encode(images), tiny.encode(images * 2 - 1).latents)
    assert loaded.latent_scale == 1.0


def test_a_lora_is_merged(published: dict[str, Tensor], tmp_path: Path) -> None:
    layer = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    up, down = torch.randn(32, 2), torch.randn(2, 32)
    lora = saved(
        {f"unet.{layer}.lora.up.weight": up, f"unet.{layer}.lora.down.weight": down}, tmp_path / "l.safetensors"
    )
    file = saved(published, tmp_path / "model.safetensors")
    plain, merged = load_checkpoint(file), load_checkpoint(file, loras={lora: 0.5})
    changed = merged.unet.get_submodule(layer).weight - plain.unet.get_submodule(layer).weight
    torch.testing.assert_close(changed, 0.5 * up @ down, rtol=1e-4, atol=1e-5)


def test_shapes_of_the_published_checkpoint() -> None:
    state = shapes("sd15-fp16")
    assert read_unet_config(state) == SD15
    assert read_unet_config(unet_tensors(state, "diffusers")) == SD15


def test_shapes_of_the_published_sdxl_checkpoint() -> None:
    state = shapes("sdxl-base")
    assert read_unet_config(state) == SDXL
    assert read_unet_config(unet_tensors(state, "diffusers")) == SDXL
    without = {name: tensor for name, tensor in state.items() if "middle_block.1.transformer_blocks.9" not in name}
    with pytest.raises(WeightsError, match="69 transformer blocks where SDXL has 70"):
        read_unet_config(without)


@pytest.fixture(scope="module")
def sdxl() -> NetworksXL:
    return small_sdxl_networks()


@pytest.mark.parametrize("layout", [sdxl_checkpoint, sdxl_in_diffusers_names])
def test_every_layout_of_sdxl_is_the_same_model(sdxl: NetworksXL, tmp_path: Path, layout: Callable[..., Any]) -> None:
    unet, _, first, second = sdxl
    loaded = load_checkpoint(saved(layout(sdxl), tmp_path / "model.safetensors"))
    assert unet_config(loaded.unet) == unet_config(unet) == SMALL_XL and loaded.latent_scale == 0.13025
    assert all(weight.equal(unet.state_dict()[name]) for name, weight in loaded.unet.state_dict().items())
    text = loaded.encode_text([PROMPT])
    tokens = tokenize(PROMPT)
    end = int((tokens[0] == END).int().argmax())
    padded = torch.where(torch.arange(77) > end, 0, tokens)
    theirs = second(padded, output_hidden_states=True)
    expected = [first(tokens, output_hidden_states=True).hidden_states[-2], theirs.hidden_states[-2]]
    assert torch.equal(text.states, torch.cat(expected, dim=-1)) and text.states.shape == (1, 77, 192)
    assert text.pooled is not None and torch.equal(text.pooled, theirs.text_embeds)
    short, long = loaded.encode_text([PROMPT]), loaded.encode_text([PROMPT, "fish " * 100])
    assert long.states.shape == (2, 154, 192) and long.pooled is not None and long.pooled.shape == (2, 128)
    assert torch.allclose(long.states[:1, 77:], short.states, atol=1e-6)


def test_a_lora_of_sdxls_second_text_encoder(sdxl: NetworksXL, tmp_path: Path) -> None:
    layer = "encoder_layers_0_self_attn_q_proj"
    up, down = torch.randn(128, 2), torch.randn(2, 128)
    halves = {f"lora_te2_text_model_{layer}.lora_{half}.weight": m for half, m in {"up": up, "down": down}.items()}
    lora, file = saved(halves, tmp_path / "l.safetensors"), saved(sdxl_checkpoint(sdxl), tmp_path / "m.safetensors")
    plain, merged = load_checkpoint(file), load_checkpoint(file, loras={lora: 1.0})
    both = zip(plain.text_encoders, merged.text_encoders, strict=True)
    changed = [{n: w - b.state_dict()[n] for n, w in a.state_dict().items()} for a, b in both]
    assert not any(change.any() for change in changed[0].values())
    (name,) = (name for name, change in changed[1].items() if change.any())
    assert "layers.0.self_attn.q_proj" in name
    torch.testing.assert_close(changed[1][name], -up @ down, rtol=1e-4, atol=1e-5)


def test_one_level() -> None:
    """The smallest that the stock loader of the host takes."""
    config = UNetConfig((320,), 2, (True,), 8, 768)
    wanted = ("input_blocks.0", "input_blocks.1.", "input_blocks.2.", "middle_block", "out.", "time_embed")
    whole = shapes("sd15-fp16")
    state = {
        name: tensor for name, tensor in whole.items() if name.removeprefix("model.diffusion_model.").startswith(wanted)
    }
    assert read_unet_config(state) == config


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model.diffusion_model.input_blocks.0.0.weight": (32, 9, 3, 3)}, "inpainting"),
        ({"model.diffusion_model.label_emb.0.0.weight": (4, 4)}, "second text encoder"),
        ({"model.diffusion_model.input_blocks.0.0.weight": (384, 4, 3, 3)}, "refiner"),
        ({"first_stage_model.encoder.conv_in.weight": None}, "--vae"),
        ({"cond_stage_model.transformer.text_model.embeddings.token_embedding.weight": None}, "no text encoder"),
        ({"model.diffusion_model.out.2.weight": None}, "conv_out.weight"),
        ({"model.diffusion_model.out.2.weight": (3, 32, 3, 3)}, r"\(3, 32, 3, 3\)"),
        ({"model.diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight": None}, "no UNet"),
    ],
)
def test_refused(
    published: dict[str, Tensor], tmp_path: Path, change: dict[str, tuple[int, ...] | None], said: str
) -> None:
    state = published | {name: torch.zeros(shape) for name, shape in change.items() if shape}
    kept = {name: tensor for name, tensor in state.items() if change.get(name, ()) is not None}
    with pytest.raises(WeightsError, match=said) as refused:
        load_checkpoint(saved(kept, tmp_path / "model.safetensors"))
    assert str(refused.value).count("model.safetensors") == 1


def test_nan(published: dict[str, Tensor], tmp_path: Path) -> None:
    state = published | {"model.diffusion_model.out.2.bias": torch.full((4,), torch.nan)}
    with pytest.raises(WeightsError, match="NaN"):
        load_checkpoint(saved(state, tmp_path / "model.safetensors"))


def test_long_prompts_get_further_sections() -> None:
    tokens = tokenize("fish " * 100)
    assert tokens.shape == (2, 77)
    assert tokens[:, 0].tolist() == [START, START]
    assert tokens[:, -1].tolist() == [END, END]
    assert tokenize("").tolist() == [[START, *[END] * 76]]
