"""What is wrong inside a file: configurations, shapes, types and values that fit no module."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from firstframe.errors import WeightsError
from firstframe.modules.i2v_adapter import I2VAdapter
from firstframe.modules.image_prompt import ImageTokenAdapter, Resampler, ResamplerConfig
from firstframe.modules.motion import MotionConfig, MotionModule
from firstframe.modules.retention import RetentionBranch, RetentionConfig
from firstframe.sites import Site, UNetConfig
from firstframe.weights import (
    I2V_ADAPTER,
    IMAGE_TOKENS,
    MOTION_MODULE,
    RESAMPLER,
    RETENTION,
    load,
    load_metadata,
    load_motion_lora,
    save,
)

SITES = {Site("down", 0, 0): 32, Site("up", 1, 2): 64}
MOTION = MotionConfig((32, 64), 1, True, 8, 4)
BRANCH = RetentionConfig(UNetConfig((32, 64), 1, (True, False), 4, 24), MOTION, stem_channels=(4, 4, 8, 8))
KINDS = {
    "adapter": (I2V_ADAPTER, lambda: I2VAdapter(SITES, 4)),
    "tokens": (IMAGE_TOKENS, lambda: ImageTokenAdapter(SITES, 24, 4, 5)),
    "motion": (MOTION_MODULE, lambda: MotionModule(MOTION)),
    "retention": (RETENTION, lambda: RetentionBranch(BRANCH)),
}
PROJ_IN = "sites.down_0_0.proj_in.weight"


def saved(tmp_path: Path, name: str) -> tuple[Any, Path]:
    kind, build = KINDS[name]
    save(kind, tmp_path / "x.safetensors", build())
    return kind, tmp_path / "x.safetensors"


def rewrite(path: Path, tensors: dict[str, Tensor] | None = None, config: str | None = None) -> None:
    """Replace tensors (or add some) and the configuration in the metadata."""
    state, metadata = load_file(path), load_metadata(path)
    if config is not None:
        metadata["firstframe.config"] = config
    save_file({**state, **(tensors or {})}, path, metadata)


@pytest.mark.parametrize("name", KINDS)
def test_a_configuration_that_is_none(tmp_path: Path, name: str) -> None:
    kind, path = saved(tmp_path, name)
    number = '{"num_heads": ' + "9" * 5_000 + "}"
    for config in ("{", "[]", "7", '"a"', "[" * 100_000, number, " " * 200_000):
        rewrite(path, config=config)
        with pytest.raises(WeightsError, match=r"x\.safetensors: the configuration in the metadata is no JSON object"):
            load(kind, path)


@pytest.mark.parametrize(
    ("name", "entry", "value", "said"),
    [
        ("adapter", "num_heads", 0, "num_heads is 0; expected 1 to 256"),
        ("adapter", "num_heads", -4, "num_heads is -4; expected 1 to 256"),
        ("adapter", "num_heads", 5, "a width of 32 channels cannot be shared by 5 attention heads"),
        ("adapter", "num_heads", "4", "num_heads is '4', not of type int"),
        ("adapter", "num_heads", 4.0, "num_heads is 4.0, not of type int"),
        ("adapter", "num_heads", True, "num_heads is True, not of type int"),
        ("adapter", "num_heads", None, "neither num_heads nor head_channels"),
        ("adapter", "surprise", 1, "'surprise' is unknown"),
        ("tokens", "num_tokens", 10**9, "num_tokens is 1000000000; expected 1 to 4096"),
        ("motion", "layers_per_block", 1_000_000, "layers_per_block is 1000000; expected 1 to 8"),
        ("motion", "max_frames", 10**12, "max_frames is 1000000000000; expected 1 to 4096"),
        ("motion", "block_out_channels", 32, "block_out_channels is 32, not a list of 1 to 8 entries"),
        ("motion", "block_out_channels", [], "block_out_channels is [], not a list of 1 to 8 entries"),
        ("motion", "block_out_channels", [32] * 1000, "not a list of 1 to 8 entries"),
        ("motion", "block_out_channels", [32, "64"], "block_out_channels is '64', not of type int"),
        ("motion", "block_out_channels", [36, 64], "36 channels is no multiple of the norms' 32 groups"),
        ("motion", "mid", 1, "mid is 1, not of type bool"),
        ("motion", "num_heads", 3, "cannot be shared by 3 attention heads"),
        ("retention", "unet", 7, "unet is no JSON object with the entries of a UNetConfig"),
        ("retention", "stem_channels", [4, 4, 8], "stem_channels has 3 entries, not 4"),
    ],
)  # fmt: skip
def test_a_setting_out_of_its_bounds(tmp_path: Path, name: str, entry: str, value: object, said: str) -> None:
    kind, path = saved(tmp_path, name)
    rewrite(path, config=json.dumps({**json.loads(load_metadata(path)["firstframe.config"]), entry: value}))
    start = perf_counter()
    with pytest.raises(WeightsError) as refused:
        load(kind, path)
    assert said in str(refused.value) and "x.safetensors" in str(refused.value)
    assert perf_counter() - start < 5


def test_a_setting_that_is_missing(tmp_path: Path) -> None:
    kind, path = saved(tmp_path, "motion")
    rewrite(path, config='{"num_heads": 4}')
    with pytest.raises(WeightsError, match="'block_out_channels' is missing"):
        load(kind, path)


@pytest.mark.parametrize(
    ("unet", "said"),
    [
        ({"attention": (True,)}, "attention has 1 entries, not 2"),
        ({"layers_per_block": 2}, "layers_per_block is 2 for the UNet, 1 for its motion"),
        ({"num_heads": 5}, "cannot be shared by 5 attention heads"),
        ({"in_channels": 10**6}, "in_channels is 1000000; expected 1 to 256"),
    ],
)
def test_a_branch_whose_parts_do_not_fit(tmp_path: Path, unet: dict[str, Any], said: str) -> None:
    kind, path = saved(tmp_path, "retention")
    rewrite(path, config=json.dumps(asdict(replace(BRANCH, unet=replace(BRANCH.unet, **unet)))))
    with pytest.raises(WeightsError, match=said):
        load(kind, path)


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("adapter", "sites.down_0_0.to_q.weight"),
        ("tokens", "sites.down_0_0.to_k_ip.weight"),
        ("motion", "sites.down_0_0.attentions.0.pe"),
        ("retention", "stem.conv_in.weight"),
    ],
)
def test_a_tensor_of_another_shape(tmp_path: Path, name: str, changed: str) -> None:
    """Those that widths are read from, too."""
    kind, path = saved(tmp_path, name)
    for shape in ((), (3,), (0, 0), (2, 3, 4, 5)):
        rewrite(path, {changed: torch.zeros(shape)})
        with pytest.raises(WeightsError, match=rf"x\.safetensors: ({changed} has shape|a width of 0)"):
            load(kind, path)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.uint8])
def test_weights_that_are_whole_numbers(tmp_path: Path, name: str, dtype: torch.dtype) -> None:
    kind, path = saved(tmp_path, name)
    changed, tensor = next(iter(load_file(path).items()))
    rewrite(path, {changed: tensor.to(dtype)})
    with pytest.raises(WeightsError, match=rf"{changed} is of type {dtype}; weights are floating-point numbers"):
        load(kind, path)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_is_refused_with_a_way_to_look_at_it(tmp_path: Path, name: str, value: float) -> None:
    kind, path = saved(tmp_path, name)
    changed, tensor = list(load_file(path).items())[-1]
    tensor.flatten()[-1] = value
    rewrite(path, {changed: tensor})
    with pytest.raises(WeightsError, match=rf"{changed} .* NaN or infinite values.*firstframe weights inspect {path}"):
        load(kind, path)


OWN_NAME = "sites.down_{}_0.to_q.weight"
OFFICIAL_NAME = "down_blocks.{}.attentions.0.transformer_blocks.0.attn1.to_q_ff.weight"


@pytest.mark.parametrize("number", [900 * "9", "1000000", "00", "٣"], ids=["900 digits", "million", "00", "Arabic"])
@pytest.mark.parametrize("name", [OWN_NAME, OFFICIAL_NAME], ids=["own", "official"])
def test_a_site_that_no_unet_has(tmp_path: Path, name: str, number: str) -> None:
    save_file({name.format(number): torch.zeros(32, 32)}, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match=r"x\.safetensors: "):
        load(I2V_ADAPTER, tmp_path / "x.safetensors")


def test_a_published_motion_module_with_a_hundred_layers(tmp_path: Path, oracle_dir: Path) -> None:
    """Its configuration is read off the names."""
    state = load_file(oracle_dir / "motion.safetensors")
    state |= {name.replace("modules.1", "modules.99"): t.clone() for name, t in state.items() if "modules.1" in name}
    save_file(state, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="layers_per_block is 100; expected 1 to 8"):
        load(MOTION_MODULE, tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("latents", (), r"image_proj\.latents has shape \(\), not one of 3 axes"),
        ("latents", (1, 16, 65), r"image_proj\.latents is 65 wide; expected a multiple of 64"),
        ("latents", (1, 16, 0), r"image_proj\.latents is 0 wide"),
        ("proj_in.weight", (3,), r"image_proj\.proj_in\.weight has shape \(3,\), not one of 2 axes"),
        ("layers.0.1.1.weight", (), "not one of 2 axes"),
        ("proj_out.weight", (3, 3, 3), "not one of 2 axes"),
    ],
)
def test_a_resampler_of_another_shape(tmp_path: Path, name: str, shape: tuple[int, ...], said: str) -> None:
    state = Resampler(ResamplerConfig(feature_dim=10, width=64, token_dim=6, depth=1)).state_dict()
    state[name] = torch.zeros(shape)
    save_file({f"image_proj.{key}": tensor for key, tensor in state.items()}, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match=said):
        load(RESAMPLER, tmp_path / "x.safetensors")


LORA = "mid_block.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.processor.to_q_lora"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda up: torch.zeros(()), r"up\.weight has shape \(\), not one of 2 axes"),
        (lambda up: up.long(), "is of type torch.int64"),
        (lambda up: up * float("nan"), "NaN"),
    ],
)
def test_a_motion_lora(tmp_path: Path, change: Callable[[Tensor], Tensor], said: str) -> None:
    halves = {f"{LORA}.up.weight": change(torch.ones(8, 2)), f"{LORA}.down.weight": torch.ones(2, 8)}
    save_file(halves, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match=rf"x\.safetensors: .*{said}"):
        load_motion_lora(tmp_path / "x.safetensors")
