"""Motion modules for SDXL equal AnimateDiff-Evolved's on the same random files.

AnimateDiff-Evolved pools *every* norm of the UNet over the frames for modules without a middle block. The modules'
authors pool the modules' own norms (AnimateDiff for SDXL), or those of the UNet's residual blocks (Hotshot-XL). So the
comparison lets AnimateDiff-Evolved pool the norms that the authors pool. Its UNet has SDXL's widths: 4 GB of memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.model_management
import folder_paths
import pytest
import torch
from comfy.model_patcher import ModelPatcher
from comfyui_firstframe_pack.firstframe.bindings.comfy.motion import apply_motion
from comfyui_firstframe_pack.firstframe.bindings.comfy.weights import load_in_host
from comfyui_firstframe_pack.firstframe.modules.motion import MotionConfig, MotionModule, sinusoidal_positions
from comfyui_firstframe_pack.firstframe.sites import SDXL
from comfyui_firstframe_pack.firstframe.weights import MOTION_MODULE
from comfyui_firstframe_pack.firstframe.weights.keymaps import ANIMATEDIFF, HOTSHOT, to_theirs
from safetensors.torch import save_file
from small import ksample, relative_error
from small_sdxl import POOLED, SIZE_EMBEDDINGS, prompts, small_sdxl
from test_packs import ANIMATEDIFF_EVOLVED, module_of, row
from torch import Tensor, nn

WIDE = replace(
    SDXL,
    attention=(False, True, False),
    depths=(1, 1, 1),
    cross_attention_dim=32,
    pooled_channels=POOLED + SIZE_EMBEDDINGS,
)
FILES = {"mm_sdxl": (ANIMATEDIFF, 32), "hotshot": (HOTSHOT, 24)}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where AnimateDiff-Evolved looks: random modules in both layouts."""
    folder = tmp_path_factory.mktemp("animatediff_models")
    folder_paths.add_model_folder_path("animatediff_models", str(folder))
    for name, (keymap, max_frames) in FILES.items():
        config = MotionConfig(SDXL.block_out_channels, SDXL.layers_per_block, False, max_frames)
        with torch.device("meta"):
            shapes = to_theirs(MotionModule(config).state_dict(), keymap)
        generator = torch.Generator().manual_seed(4)
        state = {key: numbers(key, meta.shape, generator).half() for key, meta in shapes.items()}
        save_file(state, folder / f"{name}.safetensors")
    return folder


def numbers(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    if name.endswith((".pe", ".positional_encoding")):
        return sinusoidal_positions(*shape[1:])
    if len(shape) == 1:
        return torch.full(shape, float(name.endswith(".weight")))
    return torch.randn(shape, generator=generator) / shape[1] ** 0.5


@pytest.fixture(scope="module")
def base() -> Iterator[ModelPatcher]:
    with torch.inference_mode():
        yield small_sdxl(WIDE)
    comfy.model_management.unload_all_models()


def theirs(model: ModelPatcher, name: str) -> ModelPatcher:
    """AnimateDiff Loader (Gen 1)."""
    loader = module_of(ANIMATEDIFF_EVOLVED).NODE_CLASS_MAPPINGS["ADE_AnimateDiffLoaderGen1"]()
    return loader.load_mm_and_inject_params(model, f"{name}.safetensors", "autoselect", context_options=None)[0]


def as_the_authors_pool(name: str, unet: nn.Module) -> Callable[[Any, bool], Callable[[nn.GroupNorm, Tensor], Tensor]]:
    """AnimateDiff-Evolved's replacement of all norms, for those that the module's authors pool."""
    pooling = module_of(ANIMATEDIFF_EVOLVED, ".animatediff.sampling").groupnorm_mm_factory
    of_unet = {id(norm) for norm in unet.modules() if isinstance(norm, nn.GroupNorm)}

    def factory(params: Any, manual_cast: bool = False) -> Callable[[nn.GroupNorm, Tensor], Tensor]:
        pooled = pooling(params, manual_cast=manual_cast)

        def forward(norm: nn.GroupNorm, x: Tensor) -> Tensor:
            of_residual_block = id(norm) in of_unet and norm.eps == 1e-5
            if of_residual_block if name == "hotshot" else id(norm) not in of_unet:
                return pooled(norm, x)
            return nn.functional.group_norm(x, norm.num_groups, norm.weight.to(x), norm.bias.to(x), norm.eps)

        return forward

    return factory


def sample(model: ModelPatcher) -> Tensor:
    """From within the schedule: at its beginning the host adds another noise than ours, see ``motion_schedule``."""
    return ksample(model, prompts=prompts(), steps=2, denoise=0.5)


@row("AnimateDiff-Evolved: motion modules for SDXL equal ours on the same files", ANIMATEDIFF_EVOLVED)
@pytest.mark.parametrize("name", FILES)
def test_equal_on_the_same_file(files: Path, base: ModelPatcher, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load_in_host(MOTION_MODULE, files / f"{name}.safetensors")
    ours, evolved = apply_motion(base, module, 1.0, "auto"), theirs(base, name)
    sigmas = [model.get_model_object("model_sampling").sigmas for model in (ours, evolved)]
    torch.testing.assert_close(*sigmas, rtol=1e-6, atol=0)
    factory = as_the_authors_pool(name, base.model.diffusion_model)
    monkeypatch.setattr(module_of(ANIMATEDIFF_EVOLVED, ".animatediff.sampling"), "groupnorm_mm_factory", factory)
    clip = sample(ours)
    assert relative_error(sample(evolved), clip) < 3e-4
    assert relative_error(sample(base), clip) > 0.05, "the motion module does something"
