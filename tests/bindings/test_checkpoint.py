"""Stable Diffusion 1.5 out of its single file, in diffusers' classes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file

from firstframe.bindings.diffusers import unet_config
from firstframe.bindings.diffusers.checkpoint import clip_tokenizer, load_checkpoint
from firstframe.bindings.diffusers.checkpoint.load import Lora
from firstframe.errors import WeightsError
from firstframe.sites import SD15
from firstframe.weights.unet_shapes import read_unet_config
from tests.small_checkpoint import AUTOENCODER, SMALL, write_checkpoint
from tests.synthetic import shapes

PROJECTION = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "small.safetensors")


@pytest.mark.parametrize("id", ["sd15", "i2v-adapter-base"])
def test_the_published_sizes_are_read_off_the_shapes(id: str) -> None:
    assert read_unet_config(shapes(id)) == SD15


def test_the_networks_have_the_file_s_weights(file: Path) -> None:
    checkpoint, weights = load_checkpoint(file), load_file(file)
    assert unet_config(checkpoint.unet) == SMALL
    theirs = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"
    assert torch.equal(checkpoint.unet.get_parameter(f"{PROJECTION}.weight"), weights[theirs])
    query = weights["first_stage_model.encoder.mid.attn_1.q.weight"][..., 0, 0]
    assert torch.equal(checkpoint.autoencoder.model.get_parameter("encoder.mid_block.attentions.0.to_q.weight"), query)
    assert checkpoint.text_encoder(["a red fish", ""]).shape == (2, 77, 64)
    images = torch.rand(3, 3, 64, 32)
    latents = checkpoint.autoencoder.encode(images)
    assert latents.shape == (3, 4, 8, 4) and checkpoint.autoencoder.decode(latents).shape == images.shape


def test_another_autoencoder_takes_the_place_of_the_file_s(file: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    vae = AutoencoderKL(**AUTOENCODER)
    save_file(vae.state_dict(), tmp_path / "vae.safetensors")
    found = load_checkpoint(file, tmp_path / "vae.safetensors").autoencoder.model
    assert torch.equal(found.encoder.conv_in.weight, vae.encoder.conv_in.weight)


@pytest.mark.parametrize("layout", ["kohya", "diffusers"])
def test_a_lora_is_merged(file: Path, tmp_path: Path, layout: str) -> None:
    down, up = torch.randn(2, 32), torch.randn(32, 2)
    names = {
        "kohya": (f"lora_unet_{PROJECTION.replace('.', '_')}.lora_{{}}.weight", "down", "up"),
        "diffusers": (f"unet.{PROJECTION}.lora_{{}}.weight", "A", "B"),
    }
    name, first, second = names[layout]
    tensors = {name.format(first): down, name.format(second): up}
    if layout == "kohya":
        tensors[name.partition(".")[0] + ".alpha"] = torch.tensor(2.0)
    save_file(tensors, tmp_path / "lora.safetensors")
    plain, merged = (load_checkpoint(file, loras=loras).unet for loras in ((), [Lora(tmp_path / "lora.safetensors", 0.5)]))
    assert list(plain.state_dict()) == list(merged.state_dict()) and type(merged) is UNet2DConditionModel
    for name, weight in merged.state_dict().items():
        expected = plain.state_dict()[name] + (0.5 * up @ down if name == f"{PROJECTION}.weight" else 0)
        torch.testing.assert_close(weight, expected)


def test_what_is_no_lora_or_no_checkpoint_is_named(file: Path, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.safetensors"
    save_file({"x": torch.zeros(1)}, stranger)
    with pytest.raises(WeightsError, match=r"stranger.*no UNet"):
        load_checkpoint(stranger)
    with pytest.raises(WeightsError, match=r"stranger.*cannot be merged"):
        load_checkpoint(file, loras=[Lora(stranger)])
    with pytest.raises(WeightsError, match=r"stranger.*no autoencoder"):
        load_checkpoint(file, stranger)


def test_the_tokens_are_clip_s() -> None:
    """Ids of OpenAI's own tokenizer."""
    tokens = clip_tokenizer()("A red fish's 42 café!", padding="max_length", truncation=True).input_ids
    assert len(tokens) == 77 and tokens[-1] == 49407
    assert tokens[:11] == [49406, 320, 736, 2759, 568, 275, 273, 15304, 256, 49407, 49407][:11]
