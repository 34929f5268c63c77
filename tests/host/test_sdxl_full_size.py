"""SDXL at full size, each file from its published layout to a sampled clip, weights in 16 bit.

Files as in test_full_size.py: 9 GB more on the disk, 10 GB of memory, some minutes. The adapter and the branch, which
nobody publishes, are written in FirstFrame's own layout.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import comfy.cli_args
import comfy.model_management
import folder_paths
import pytest
import torch
from comfy.model_patcher import ModelPatcher
from comfyui_firstframe_pack.firstframe.bindings.comfy.weights import load_in_host
from comfyui_firstframe_pack.firstframe.clips.reference import ImageFeatures, Reference
from comfyui_firstframe_pack.firstframe.modules.i2v_adapter import I2VAdapter
from comfyui_firstframe_pack.firstframe.modules.motion import MotionConfig
from comfyui_firstframe_pack.firstframe.modules.retention import RetentionBranch, RetentionConfig
from comfyui_firstframe_pack.firstframe.sites import SDXL
from comfyui_firstframe_pack.firstframe.weights import I2V_ADAPTER, RETENTION
from comfyui_firstframe_pack.nodes.adapter import ApplyAdapter
from comfyui_firstframe_pack.nodes.content import SAME_FILE, ApplyContentAdapter, LoadContentAdapter
from comfyui_firstframe_pack.nodes.load import LoadMotionModule
from comfyui_firstframe_pack.nodes.motion import ApplyMotionModule
from comfyui_firstframe_pack.nodes.prior import SimilarityPrior
from comfyui_firstframe_pack.nodes.reference import EncodeReference
from comfyui_firstframe_pack.nodes.retention import ApplyRetention
from safetensors.torch import save_file
from test_full_size import FOLDER, FRAMES, KINDS, SIZE, check, count, file, pytestmark  # noqa: F401
from torch import Tensor, nn

from nodes import CheckpointLoaderSimple, CLIPTextEncode, KSampler

MOTION = MotionConfig(SDXL.block_out_channels, SDXL.layers_per_block, False, 32, norm_over_frames=True)
PARAMETERS = {
    "motion": 236_779_200,
    "adapter": 204_883_200,
    "projections": 340_787_200,
    "branch": 930_968_400,
    "unet": 2_567_463_684,
}


@pytest.fixture(scope="module", autouse=True)
def in_16_bit() -> Iterator[None]:
    """The host stores the UNet and the text encoders in 16 bit, as with --bf16-unet and --fp16-text-enc."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comfy.cli_args.args, "bf16_unet", True)
        patch.setattr(comfy.cli_args.args, "fp16_text_enc", True)
        yield
    comfy.model_management.unload_all_models()


def own_file(name: str, kind: str, build: Callable[[], nn.Module], config: dict[str, Any]) -> Path:
    """A module of random numbers in our own layout, written now if it is not there."""
    path = Path(FOLDER).expanduser() / name
    if not path.exists():
        with torch.device("meta"):
            shapes = build().state_dict()
        generator = torch.Generator().manual_seed(1)
        state = {key: numbers(key, meta.shape, generator) for key, meta in shapes.items()}
        save_file(state, path, {"firstframe.kind": kind, "firstframe.config": json.dumps(config)})
    return path


def numbers(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    if len(shape) == 1:
        return torch.full(shape, float(name.endswith(".weight")), dtype=torch.float16)
    std = 0.5 / shape[1:].numel() ** 0.5
    return torch.empty(shape, dtype=torch.float16).normal_(0.0, std, generator=generator)


@pytest.fixture(scope="module")
def base() -> tuple[ModelPatcher, Any, tuple[Any, Any]]:
    """MODEL, VAE and two prompts; the text encoders go as soon as they have encoded these."""
    for kind in KINDS:
        folder_paths.add_model_folder_path(kind, str(Path(FOLDER).expanduser()))
    with torch.inference_mode():
        model, clip, vae = CheckpointLoaderSimple().load_checkpoint(file("sdxl-base"))
        prompts = [CLIPTextEncode().encode(clip, text)[0] for text in ("a fish swims to the left", "")]
    comfy.model_management.unload_all_models()
    return model, vae, tuple(prompts)


@pytest.fixture(scope="module")
def reference(base: tuple[ModelPatcher, Any, tuple[Any, Any]]) -> Reference:
    """An image with its latent, and random numbers for what CLIP ViT-H sees in it."""
    generator = torch.Generator().manual_seed(1)
    with torch.inference_mode():
        image = torch.rand(1, SIZE, SIZE, 3, generator=generator)
        encoded: Reference = EncodeReference.execute(image, base[1], SIZE, SIZE, "cover").args[0]
    return replace(encoded, features=ImageFeatures(*torch.randn(2, 1, 257, 1280, generator=generator)))


def sampled(model: ModelPatcher, prompts: tuple[Any, Any], reference: Reference) -> Tensor:
    latent, denoise = SimilarityPrior.execute(reference, FRAMES, 1.0, 0.5, 9, 18.0, seed=3).args
    settings = {"seed": 3, "steps": 2, "cfg": 2.0, "sampler_name": "euler", "scheduler": "normal", "denoise": denoise}
    (clip,) = KSampler().sample(model, positive=prompts[0], negative=prompts[1], latent_image=latent, **settings)
    return clip["samples"].cpu()


def test_an_image_becomes_a_clip_with_every_module(
    base: tuple[ModelPatcher, Any, tuple[Any, Any]], reference: Reference
) -> None:
    model, _, prompts = base
    assert count(model.model.diffusion_model) == PARAMETERS["unet"]
    assert next(model.model.diffusion_model.parameters()).dtype == torch.bfloat16
    motion = LoadMotionModule.execute(file("animatediff-sdxl")).args[0]
    content = LoadContentAdapter.execute(file("ip-adapter-plus-sdxl"), SAME_FILE).args[0]
    adapter = load_in_host(I2V_ADAPTER, _adapter())
    branch = load_in_host(RETENTION, _branch())
    found = {"motion": motion.model, "adapter": adapter.model, "branch": branch.model}
    assert {name: count(module) for name, module in found.items()} == {name: PARAMETERS[name] for name in found}
    assert count(content.projections.model) == PARAMETERS["projections"]
    moving = ApplyMotionModule.execute(model, motion, 1.0, "auto").args[0]
    applied = ApplyAdapter.execute(moving, adapter, reference, 1.0, hold_first_frame=True).args[0]
    seeing, *told = ApplyContentAdapter.execute(applied, *prompts, content, reference, 1.0).args
    retained = ApplyRetention.execute(*told, branch, reference, 1.0, 0.0, 1.0).args
    check(sampled(seeing, retained, reference), reference)


def _adapter() -> Path:
    def build() -> I2VAdapter:
        return I2VAdapter(SDXL.attention_sites, SDXL.heads)

    return own_file("i2v_adapter_sdxl.safetensors", "i2v_adapter", build, {"head_channels": SDXL.head_channels})


def _branch() -> Path:
    config = RetentionConfig(SDXL, MOTION)
    return own_file("retention_sdxl.safetensors", "retention", lambda: RetentionBranch(config), asdict(config))


def test_hotshot_is_another_module(base: tuple[ModelPatcher, Any, tuple[Any, Any]], reference: Reference) -> None:
    model, _, prompts = base
    motion = LoadMotionModule.execute(file("hotshot-xl-fp16")).args[0]
    assert motion.model.config.pooled_unet_norms and motion.model.config.max_frames == 24
    clip = sampled(ApplyMotionModule.execute(model, motion, 1.0, "auto").args[0], prompts, reference)
    assert clip.isfinite().all() and not torch.allclose(clip[1], clip[2], rtol=0.1)
