from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from firstframe.errors import WeightsError
from firstframe.modules.backend import Backend
from firstframe.modules.i2v_adapter import I2VAdapter
from firstframe.modules.image_prompt import ImageTokenAdapter, Resampler, ResamplerConfig
from firstframe.modules.motion import MotionConfig, MotionModule
from firstframe.sites import SD15, Site
from firstframe.weights import (
    I2V_ADAPTER,
    IMAGE_TOKENS,
    MOTION_MODULE,
    RESAMPLER,
    load,
    load_metadata,
    save,
)
from firstframe.weights.keymaps import IP_ADAPTER, UNOFFICIAL_ADAPTER, to_theirs

SITES = {Site("down", 0, 0): 32, Site("up", 1, 2): 64}
Q = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q_ff.weight"


def modules() -> list:
    return [
        (I2VAdapter(SITES, 4), I2V_ADAPTER),
        (I2VAdapter(SITES, 4, own_projections=True), I2V_ADAPTER),
        (ImageTokenAdapter(SITES, 24, 4, 5), IMAGE_TOKENS),
        (MotionModule(MotionConfig((32, 64), 1, True, 9, 4, True, True)), MOTION_MODULE),
    ]


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("case", range(4))
def test_saved_and_loaded(tmp_path: Path, case: int, generator: torch.Generator) -> None:
    module, kind = modules()[case]
    for parameter in module.parameters():
        nn.init.normal_(parameter, generator=generator)
    path = tmp_path / "x.safetensors"
    save(kind, path, module, {"steps": "7"}, dtype=torch.float32)
    again = load(kind, path)
    assert equal(again.state_dict(), module.state_dict())
    assert again.widths == module.widths
    for name in ("heads", "num_tokens", "config"):
        assert getattr(again, name, None) == getattr(module, name, None)
    assert load_metadata(path)["steps"] == "7"


def test_half_precision_on_disk(tmp_path: Path) -> None:
    module = MotionModule(MotionConfig((32,), 1, False, 8, 4))
    save(MOTION_MODULE, tmp_path / "x.safetensors", module)
    stored = load_file(tmp_path / "x.safetensors")
    assert stored["sites.down_0_0.proj_in.weight"].dtype == torch.float16
    assert stored["sites.down_0_0.attentions.0.pe"].dtype == torch.float32
    assert {p.dtype for p in load(MOTION_MODULE, tmp_path / "x.safetensors").parameters()} == {torch.float32}
    kept = load(MOTION_MODULE, tmp_path / "x.safetensors", dtype=None)
    assert {p.dtype for p in kept.parameters()} == {torch.float16}


def test_loaded_weights_can_be_trained(tmp_path: Path) -> None:
    save(I2V_ADAPTER, tmp_path / "x.safetensors", I2VAdapter(SITES, 4))
    assert all(p.requires_grad and p.is_leaf for p in load(I2V_ADAPTER, tmp_path / "x.safetensors").parameters())


def test_official_files(oracle_dir: Path) -> None:
    adapter = load(I2V_ADAPTER, oracle_dir / "i2v_module.safetensors")
    assert len(adapter.widths) == 16
    assert set(adapter.heads.values()) == {8}
    motion = load(MOTION_MODULE, oracle_dir / "motion.safetensors")
    assert motion.config == MotionConfig((32, 32, 64, 64), 2, False, 24, 8, pooled_unet_norms=True)
    image_tokens = load(IMAGE_TOKENS, oracle_dir / "ip.safetensors")
    assert (len(image_tokens.widths), image_tokens.token_dim, image_tokens.num_tokens) == (16, 32, 16)


@pytest.mark.parametrize("name", ["x.safetensors", "x.bin"])
def test_ip_adapter_plus(tmp_path: Path, name: str, generator: torch.Generator) -> None:
    """Flat safetensors, and the nested pickle that it was before."""
    tokens = ImageTokenAdapter(SD15.attention_sites, 6, 8)
    resampler = Resampler(ResamplerConfig(feature_dim=10, width=64, token_dim=6, depth=2))
    projections, image_proj = to_theirs(tokens.state_dict(), IP_ADAPTER), resampler.state_dict()
    for number, site in ((1, Site("down", 0, 0)), (13, Site("up", 1, 0)), (31, Site("mid", 0, 0))):
        assert torch.equal(projections[f"ip_adapter.{number}.to_k_ip.weight"], tokens[site].to_k_ip.weight)
    if name.endswith("bin"):
        inner = {key.removeprefix("ip_adapter."): tensor for key, tensor in projections.items()}
        torch.save({"image_proj": image_proj, "ip_adapter": inner}, tmp_path / name)
    else:
        save_file(projections | {f"image_proj.{key}": tensor for key, tensor in image_proj.items()}, tmp_path / name)
    assert equal(load(IMAGE_TOKENS, tmp_path / name).state_dict(), tokens.state_dict())
    loaded = load(RESAMPLER, tmp_path / name)
    assert loaded.config == resampler.config
    assert equal(loaded.state_dict(), image_proj)


def test_ip_adapter_without_a_resampler(tmp_path: Path) -> None:
    """The one that is not "Plus"."""
    save_file(
        {"ip_adapter.1.to_k_ip.weight": torch.zeros(4, 4), "image_proj.proj.weight": torch.zeros(2)},
        tmp_path / "ip.safetensors",
    )
    with pytest.raises(WeightsError, match=r"the resampler of IP-Adapter Plus was expected.*IP-Adapter"):
        load(RESAMPLER, tmp_path / "ip.safetensors")


@pytest.mark.parametrize("cut", ["latents", "layers.1.0.to_kv.weight", "norm_out.bias"])
def test_a_resampler_that_was_cut_off(tmp_path: Path, cut: str) -> None:
    state = Resampler(ResamplerConfig(feature_dim=10, width=64, token_dim=6, depth=2)).state_dict()
    save_file({f"image_proj.{key}": tensor for key, tensor in state.items() if key != cut}, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match="was expected" if cut == "latents" else rf"image_proj\.{cut} is missing"):
        load(RESAMPLER, tmp_path / "x.safetensors")


def test_an_unofficial_adapter_brings_its_own_keys_and_values(tmp_path: Path, generator: torch.Generator) -> None:
    adapter = I2VAdapter(SITES, 8, own_projections=True)
    for parameter in adapter.parameters():
        nn.init.normal_(parameter, generator=generator)
    save_file(to_theirs(adapter.state_dict(), UNOFFICIAL_ADAPTER), tmp_path / "x.safetensors")
    loaded = load(I2V_ADAPTER, tmp_path / "x.safetensors")
    assert equal(loaded.state_dict(), adapter.state_dict())
    site, x0 = Site("down", 0, 0), torch.randn(2, 3, 32, generator=generator)
    key, value = loaded[site].project(x0, base=None)
    assert torch.equal(key, x0 @ adapter[site].to_k.weight.T)
    assert torch.equal(value, x0 @ adapter[site].to_v.weight.T)


@pytest.mark.parametrize(("mid", "max_frames", "pooled"), [(True, 32, False), (False, 32, False), (False, 24, True)])
def test_versions_of_animatediff(tmp_path: Path, oracle_dir: Path, mid: bool, max_frames: int, pooled: bool) -> None:
    state = load_file(oracle_dir / "motion.safetensors")
    for name in list(state):
        if name.endswith(".pe"):
            state[name] = torch.zeros(1, max_frames, state[name].shape[-1])
        if mid and name.startswith("down_blocks.3.motion_modules.0"):
            state[name.replace("down_blocks.3", "mid_block")] = state[name].clone()
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "mm.ckpt")
    config = load(MOTION_MODULE, tmp_path / "mm.ckpt").config
    assert (config.mid, config.max_frames, config.pooled_unet_norms) == (mid, max_frames, pooled)


def altered(tmp_path: Path, oracle_dir: Path, name: str, **changes: Tensor | None) -> Path:
    state = load_file(oracle_dir / f"{name}.safetensors")
    for key, tensor in changes.items():
        if tensor is None:
            del state[key]
        else:
            state[key] = tensor
    save_file(state, tmp_path / "altered.safetensors")
    return tmp_path / "altered.safetensors"


def test_an_adapter_without_its_middle(tmp_path: Path, oracle_dir: Path) -> None:
    state = load_file(oracle_dir / "i2v_module.safetensors")
    save_file({k: v for k, v in state.items() if "mid_block" not in k}, tmp_path / "x.safetensors")
    assert Site("mid", 0, 0) not in load(I2V_ADAPTER, tmp_path / "x.safetensors")


def test_further_keys_of_the_unet_are_accepted(tmp_path: Path, oracle_dir: Path) -> None:
    path = altered(tmp_path, oracle_dir, "i2v_module", **load_file(oracle_dir / "base.safetensors"))
    alone = load(I2V_ADAPTER, oracle_dir / "i2v_module.safetensors")
    assert equal(load(I2V_ADAPTER, path).state_dict(), alone.state_dict())


def test_an_unknown_key(tmp_path: Path, oracle_dir: Path) -> None:
    path = altered(tmp_path, oracle_dir, "i2v_module", **{"encoder.surprise": torch.zeros(2)})
    with pytest.raises(WeightsError, match=r"altered\.safetensors.*encoder\.surprise"):
        load(I2V_ADAPTER, path)


def test_a_missing_key(tmp_path: Path, oracle_dir: Path) -> None:
    path = altered(tmp_path, oracle_dir, "i2v_module", **{Q.replace("q_ff", "out_ff"): None})
    with pytest.raises(WeightsError, match=r"altered\.safetensors: down_blocks.*to_out_ff\.weight is missing"):
        load(I2V_ADAPTER, path)


def test_a_wrong_shape(tmp_path: Path, oracle_dir: Path) -> None:
    path = altered(tmp_path, oracle_dir, "i2v_module", **{Q: torch.zeros(32, 31)})
    with pytest.raises(WeightsError, match=r"to_q_ff\.weight has shape \(32, 31\), not \(32, 32\)"):
        load(I2V_ADAPTER, path)


def test_an_own_file_with_a_tensor_too_many(tmp_path: Path) -> None:
    save_file(I2VAdapter(SITES, 4).state_dict() | {"extra": torch.zeros(3)}, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match=r"extra \(3,\) has no place"):
        load(I2V_ADAPTER, tmp_path / "x.safetensors")


def test_an_own_file_with_a_strange_site(tmp_path: Path) -> None:
    save_file({"sites.side_0_0.to_q.weight": torch.zeros(4, 4)}, tmp_path / "x.safetensors")
    with pytest.raises(WeightsError, match=r"x\.safetensors.*side_0_0"):
        load(I2V_ADAPTER, tmp_path / "x.safetensors")


def test_a_motion_module_without_positions_moves_any_number_of_frames(tmp_path: Path, oracle_dir: Path) -> None:
    """As AnimateLCM's."""
    state = load_file(oracle_dir / "motion.safetensors")
    save_file({k: v for k, v in state.items() if not k.endswith(".pe")}, tmp_path / "lcm.safetensors")
    motion = load(MOTION_MODULE, tmp_path / "lcm.safetensors")
    assert motion.config.max_frames is None and not motion.config.pooled_unet_norms
    site, width = next(iter(motion.widths.items()))
    x = torch.randn(1, width, 50, 1, 1, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(motion(site, x).flip(2), motion(site, x.flip(2)))  # no frame knows its place


def test_a_motion_module_that_lost_a_position(tmp_path: Path, oracle_dir: Path) -> None:
    state = load_file(oracle_dir / "motion.safetensors")
    lost = next(name for name in state if name.endswith(".pe"))
    del state[lost]
    save_file(state, tmp_path / "cut.safetensors")
    with pytest.raises(WeightsError, match=rf"{lost} is missing"):
        load(MOTION_MODULE, tmp_path / "cut.safetensors")


def test_the_wrong_kind_of_file(oracle_dir: Path) -> None:
    with pytest.raises(WeightsError, match=r"motion\.safetensors: an I2V adapter was expected.*AnimateDiff"):
        load(I2V_ADAPTER, oracle_dir / "motion.safetensors")


def test_a_host_provides_operations(oracle_dir: Path) -> None:
    class Operations(nn.Module):
        GroupNorm, LayerNorm = nn.GroupNorm, nn.LayerNorm

        class Linear(nn.Linear):
            pass

    motion = load(MOTION_MODULE, oracle_dir / "motion.safetensors", backend=Backend(Operations))
    assert type(motion[Site("down", 0, 0)].proj_in) is Operations.Linear


def test_a_host_whose_layers_have_no_weights_before_loading(oracle_dir: Path) -> None:
    class Operations:
        GroupNorm, LayerNorm = nn.GroupNorm, nn.LayerNorm

        class Linear(nn.Linear):
            def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
                super().__init__(in_features, out_features, bias)
                self.weight = self.bias = None

            def _load_from_state_dict(self, state_dict, prefix, *_) -> None:
                self.weight = nn.Parameter(state_dict[prefix + "weight"])
                bias = state_dict.get(prefix + "bias")
                self.bias = None if bias is None else nn.Parameter(bias)

    lazy = load(MOTION_MODULE, oracle_dir / "motion.safetensors", backend=Backend(Operations))
    assert equal(lazy.state_dict(), load(MOTION_MODULE, oracle_dir / "motion.safetensors").state_dict())
