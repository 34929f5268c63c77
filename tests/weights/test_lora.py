"""LoRAs in the trainers' names, merged into the weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from firstframe.errors import WeightsError
from firstframe.sites import UNetConfig
from firstframe.weights.lora import merge_loras

CONFIG = UNetConfig((8,), 1, (True,), 2, 4)
QUERY = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
KOHYA = f"lora_unet_{QUERY.replace('.', '_')}"
OUT = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0"
CONV = "down_blocks.0.resnets.0.conv1"
TEXT = "encoder.layers.0.self_attn.q_proj"

Merge = Callable[[dict[str, Tensor], float], tuple[dict[str, Tensor], dict[str, Tensor]]]


def weights() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    unet = {f"{name}.weight": torch.randn(8, 8, generator=generator) for name in (QUERY, OUT)}
    unet[f"{CONV}.weight"] = torch.randn(8, 8, 3, 3, generator=generator)
    return unet, {f"{TEXT}.weight": torch.randn(8, 8, generator=generator)}


@pytest.fixture
def merge(tmp_path: Path) -> Merge:
    def merged(lora: dict[str, Tensor], strength: float) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        save_file(lora, tmp_path / "lora.safetensors")
        networks = dict(zip(("unet", "text"), weights(), strict=True))
        unet, text = merge_loras(networks, CONFIG, {tmp_path / "lora.safetensors": strength}).values()
        return unet, text

    return merged


def halves() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(8, 2, generator=generator), torch.randn(2, 8, generator=generator)


@pytest.mark.parametrize(
    ("up", "down"),
    [
        (
            f"lora_unet_{QUERY.replace('.', '_')}.lora_up.weight",
            f"lora_unet_{QUERY.replace('.', '_')}.lora_down.weight",
        ),
        (
            "lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q.lora_up.weight",
            "lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q.lora_down.weight",
        ),
        (f"unet.{QUERY}.lora_B.weight", f"unet.{QUERY}.lora_A.weight"),
        (f"base_model.model.{QUERY}.lora_B.default.weight", f"base_model.model.{QUERY}.lora_A.default.weight"),
        (f"unet.{QUERY}.lora.up.weight", f"unet.{QUERY}.lora.down.weight"),
        (
            f"{QUERY.replace('.to_q', '.processor.to_q')}_lora.up.weight",
            f"{QUERY.replace('.to_q', '.processor.to_q')}_lora.down.weight",
        ),
    ],
)
def test_every_trainers_names_change_the_same_layer(merge: Merge, up: str, down: str) -> None:
    one, other = halves()
    unet, text = merge({up: one, down: other}, 0.5)
    before, same_text = weights()
    torch.testing.assert_close(unet[f"{QUERY}.weight"], before[f"{QUERY}.weight"] + 0.5 * one @ other)
    assert torch.equal(unet[f"{CONV}.weight"], before[f"{CONV}.weight"])
    assert torch.equal(text[f"{TEXT}.weight"], same_text[f"{TEXT}.weight"])


@pytest.mark.parametrize(
    "layer", ["lora_te_text_model_encoder_layers_0_self_attn_q_proj", "text_encoder.text_model." + TEXT]
)
def test_the_text_encoder(merge: Merge, layer: str) -> None:
    up, down = halves()
    _, text = merge({f"{layer}.lora_up.weight": up, f"{layer}.lora_down.weight": down}, 1.0)
    torch.testing.assert_close(text[f"{TEXT}.weight"], weights()[1][f"{TEXT}.weight"] + up @ down)


def test_alpha_over_rank(merge: Merge) -> None:
    up, down = halves()
    layer = f"lora_unet_{OUT.replace('.', '_')}"
    lora = {f"{layer}.lora_up.weight": up, f"{layer}.lora_down.weight": down, f"{layer}.alpha": torch.tensor(1.0)}
    torch.testing.assert_close(merge(lora, 2.0)[0][f"{OUT}.weight"], weights()[0][f"{OUT}.weight"] + up @ down)


def test_the_old_name_of_the_output_projection(merge: Merge) -> None:
    up, down = halves()
    layer = OUT.replace(".to_out.0", ".processor.to_out_lora")
    unet, _ = merge({f"{layer}.up.weight": up, f"{layer}.down.weight": down}, 1.0)
    torch.testing.assert_close(unet[f"{OUT}.weight"], weights()[0][f"{OUT}.weight"] + up @ down)


def test_a_convolution(merge: Merge) -> None:
    generator = torch.Generator().manual_seed(2)
    up, down = torch.randn(8, 2, 1, 1, generator=generator), torch.randn(2, 8, 3, 3, generator=generator)
    layer = f"lora_unet_{CONV.replace('.', '_')}"
    unet, _ = merge({f"{layer}.lora_up.weight": up, f"{layer}.lora_down.weight": down}, 1.0)
    image = torch.randn(1, 8, 5, 5, generator=generator)
    conv = torch.nn.functional.conv2d
    expected = conv(image, weights()[0][f"{CONV}.weight"]) + conv(conv(image, down), up)
    torch.testing.assert_close(conv(image, unet[f"{CONV}.weight"]), expected, rtol=1e-4, atol=1e-4)


def test_strength_zero_changes_no_bit(merge: Merge) -> None:
    up, down = halves()
    unet, _ = merge({f"unet.{QUERY}.lora.up.weight": up, f"unet.{QUERY}.lora.down.weight": down}, 0.0)
    assert torch.equal(unet[f"{QUERY}.weight"], weights()[0][f"{QUERY}.weight"])


@pytest.mark.parametrize(
    ("lora", "said"),
    [
        ({"lora_unet_elsewhere.lora_up.weight": (8, 2), "lora_unet_elsewhere.lora_down.weight": (2, 8)}, "elsewhere"),
        ({f"unet.{QUERY}.hada_w1_a": (8, 2)}, "LoHa"),
        ({f"unet.{QUERY}.lora.up.weight": (8, 2)}, "no down matrix"),
        ({f"unet.{QUERY}.lora.up.weight": (9, 2), f"unet.{QUERY}.lora.down.weight": (2, 8)}, r"\(9, 2\)"),
    ],
)
def test_refused(merge: Merge, lora: dict[str, tuple[int, ...]], said: str) -> None:
    with pytest.raises(WeightsError, match=said) as refused:
        merge({name: torch.zeros(shape) for name, shape in lora.items()}, 1.0)
    assert str(refused.value).count("lora.safetensors") == 1
