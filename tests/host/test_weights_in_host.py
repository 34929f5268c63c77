"""The host's patcher and memory manager see everything that is applied."""

from __future__ import annotations

import comfy.model_management
import comfy.model_patcher
import pytest
import torch
from comfy.model_patcher import ModelPatcher
from comfyui_firstframe_pack.firstframe.bindings.comfy.adapter import apply_adapter
from comfyui_firstframe_pack.firstframe.bindings.comfy.first_frame import hold_first_frame
from comfyui_firstframe_pack.firstframe.bindings.comfy.motion import apply_motion
from comfyui_firstframe_pack.firstframe.bindings.comfy.weights import load_in_host
from comfyui_firstframe_pack.firstframe.tiny.comfy import load_tiny_unet
from comfyui_firstframe_pack.firstframe.tiny.files import weights_file
from comfyui_firstframe_pack.firstframe.weights import I2V_ADAPTER
from small import (
    SMALL,
    ksample,
    random_unet,
    reference_latent,
    relative_error,
    small_adapter,
    small_model,
    small_motion,
    small_retention,
)

PREFIX = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1"


def image_to_video(base: ModelPatcher, motion: ModelPatcher, adapter: ModelPatcher) -> ModelPatcher:
    return hold_first_frame(apply_adapter(apply_motion(base, motion, 1.0, "auto"), adapter, 1.0), reference_latent())


def test_the_memory_manager_knows_every_weight() -> None:
    base, motion, adapter = small_model(), small_motion(), small_adapter()
    model = image_to_video(base, motion, adapter)
    loaded = []

    def look(*_: object) -> None:
        loaded.extend(entry.model for entry in comfy.model_management.current_loaded_models)

    ksample(model, callback=look)
    for part in (base, motion, adapter):
        (entry,) = {id(patcher.model): patcher for patcher in loaded if patcher.model is part.model}.values()
        weights = sum(tensor.nbytes for tensor in part.model.state_dict().values())
        assert entry.model_size() == weights
        assert entry.model.device == entry.load_device


def test_everything_can_be_unloaded_and_loaded_again() -> None:
    model = image_to_video(small_model(), small_motion(), small_adapter())
    clip = ksample(model)
    comfy.model_management.unload_all_models()
    assert comfy.model_management.current_loaded_models == []
    assert torch.equal(ksample(model), clip)


def test_a_lora_on_the_base_reaches_keys_and_values_of_the_first_frame() -> None:
    """A patched projection must give what the same change in the weights gives: K_1 and V_1 are the base's own."""
    generator = torch.Generator().manual_seed(4)
    changes = {name: 0.3 * torch.randn(32, 32, generator=generator) for name in ("to_k", "to_v")}
    base, baked = small_model(), small_model()
    patched = base.clone()
    patched.add_patches({f"{PREFIX}.{name}.weight": ("diff", (change,)) for name, change in changes.items()})
    for name, change in changes.items():
        baked.model.get_parameter(f"{PREFIX}.{name}.weight").data += change
    clips = [ksample(image_to_video(model, small_motion(), small_adapter())) for model in (base, patched, baked)]
    assert not torch.allclose(clips[0], clips[1], rtol=1e-3)
    torch.testing.assert_close(clips[1], clips[2], rtol=1e-5, atol=1e-5)


def test_half_precision_weights_are_cast_when_they_are_used() -> None:
    motion, adapter = small_motion(), small_adapter()
    clip = ksample(image_to_video(small_model(), motion, adapter))
    motion.model.half()
    adapter.model.half()
    rounded = ksample(image_to_video(small_model(), motion, adapter))
    assert not torch.equal(rounded, clip)
    torch.testing.assert_close(rounded, clip, rtol=5e-2, atol=5e-2)


def test_random_weights_cover_the_unet() -> None:
    """The tests' own models are complete: the host would leave a forgotten weight uninitialised."""
    assert len(random_unet(SMALL)) == len(small_model().model.diffusion_model.state_dict())


class Paged(ModelPatcher):
    """In place of the host's patcher for models that it pages."""


def test_parts_are_carried_as_the_hosts_own_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comfy.model_patcher, "CoreModelPatcher", Paged, raising=False)
    for part in (small_model(), small_motion(), small_adapter(), small_retention()):
        assert type(part) is Paged


def test_the_host_can_load_them_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unpaged where it cannot page, and for a second GPU."""
    monkeypatch.setattr(comfy.model_patcher, "CoreModelPatcher", Paged, raising=False)
    for part in (load_tiny_unet(), load_in_host(I2V_ADAPTER, weights_file("i2v_adapter"))):
        load, arguments = part.cached_patcher_init
        again = load(*arguments, disable_dynamic=True)
        assert type(part) is Paged and type(again) is ModelPatcher and again.model is not part.model
        weights = again.model.state_dict()
        assert all(torch.equal(weight, weights[name]) for name, weight in part.model.state_dict().items())


def test_eight_bits_are_for_matrices_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As --fp8_e4m3fn-unet asks for: norms and positions keep a type that can be computed with."""
    clip = ksample(image_to_video(small_model(), small_motion(), small_adapter()))
    monkeypatch.setattr(comfy.model_management, "unet_dtype", lambda **_: torch.float8_e4m3fn)
    motion, adapter = small_motion(), small_adapter()
    types = {name: tensor.dtype for name, tensor in motion.model.state_dict().items()}
    others = {dtype for name, dtype in types.items() if "norm" in name or name.endswith((".pe", ".bias"))}
    assert others == {torch.float32} and types["sites.down_0_0.attentions.0.to_q.weight"] == torch.float8_e4m3fn
    monkeypatch.undo()
    rounded = ksample(image_to_video(small_model(), motion, adapter))
    assert 0 < relative_error(rounded, clip) < 0.1
