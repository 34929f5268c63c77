"""Stable Diffusion 1.5 with motion modules and adapters of full size, each from its file to a sampled clip.

The files in the folder FIRSTFRAME_FULL_SIZE may be the published ones; those that are not there are written, with
random numbers (tests/synthetic.py). 17 GB on the disk, 9 GB of memory, some minutes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import comfy.model_management
import folder_paths
import pytest
import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import VAE
from comfyui_firstframe_pack.firstframe.clips.reference import Reference
from comfyui_firstframe_pack.firstframe.weights import IMAGE_TOKENS, MOTION_MODULE, load, load_state_dict
from comfyui_firstframe_pack.firstframe.weights.hub.manifest import weight_set
from comfyui_firstframe_pack.nodes.adapter import ApplyAdapter
from comfyui_firstframe_pack.nodes.content import SAME_FILE, ApplyContentAdapter, LoadContentAdapter
from comfyui_firstframe_pack.nodes.load import LoadAdapter, LoadMotionModule
from comfyui_firstframe_pack.nodes.motion import ApplyMotionModule
from comfyui_firstframe_pack.nodes.prior import SimilarityPrior
from comfyui_firstframe_pack.nodes.reference import EncodeReference
from torch import Tensor, nn

from nodes import CheckpointLoaderSimple, CLIPTextEncode, CLIPVisionLoader, KSampler

ROOT = Path(__file__).resolve().parents[2]
FOLDER = os.environ.get("FIRSTFRAME_FULL_SIZE")
KINDS = ("checkpoints", "animatediff_models", "firstframe", "ipadapter", "clip_vision")
SIZE, FRAMES = 64, 4
PARAMETERS = {"animatediff-v1": 417_137_600, "animatediff-v2": 453_209_280, "animatediff-v3": 417_137_600}
ADAPTER_PARAMETERS = 24_793_280
PROJECTION_PARAMETERS = 19_169_280

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        FOLDER is None,
        reason="FULL SIZE NOT TESTED: set FIRSTFRAME_FULL_SIZE to a folder with 17 GB of room, where weights are "
        "looked for and synthetic ones written",
    ),
]


def file(id: str) -> str:
    """The name of a file in the folder, which is written now if it is not there."""
    folder, name = Path(FOLDER).expanduser(), weight_set(id).file
    if not (folder / name).exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, ROOT / "tests" / "synthetic.py", id, "--to", folder]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    return name


def path_of(id: str) -> Path:
    name = file(id)
    return Path(FOLDER).expanduser() / name


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_animatelcm_is_a_motion_module_without_positions() -> None:
    motion = load(MOTION_MODULE, path_of("animatelcm"), dtype=None)
    assert count(motion) == PARAMETERS["animatediff-v2"]
    assert motion.config.max_frames is None


def test_the_official_unet_file_holds_motion_module_and_projections() -> None:
    path = path_of("i2v-adapter-base")
    assert count(load(IMAGE_TOKENS, path, dtype=None)) == PROJECTION_PARAMETERS
    motion = load(MOTION_MODULE, path, dtype=None)
    assert count(motion) == PARAMETERS["animatediff-v1"]
    assert motion.config.pooled_unet_norms
    found = load_state_dict(path)["down_blocks.0.motion_modules.1.temporal_transformer.proj_in.weight"]
    assert torch.equal(motion.state_dict()["sites.down_0_1.proj_in.weight"], found)


@dataclass
class Base:
    """The checkpoint as the host loads it, and what it makes of two prompts and an image."""

    model: ModelPatcher
    vae: VAE
    prompts: tuple[Any, Any]

    def reference(self, clip_vision: Any = None) -> Reference:
        image = torch.rand(1, SIZE, SIZE, 3, generator=torch.Generator().manual_seed(1))
        return EncodeReference.execute(image, self.vae, SIZE, SIZE, "cover", clip_vision).args[0]


@pytest.fixture(scope="module")
def base() -> Base:
    """Loaded once; what is applied to it is applied to clones."""
    for kind in KINDS:
        folder_paths.add_model_folder_path(kind, str(Path(FOLDER).expanduser()))
    with torch.inference_mode():
        model, clip, vae = CheckpointLoaderSimple().load_checkpoint(file("sd15-fp16"))
        encode = partial(CLIPTextEncode().encode, clip)
        return Base(model, vae, (encode("a fish swims to the left")[0], encode("")[0]))


@pytest.fixture(autouse=True)
def room() -> Iterator[None]:
    """The host keeps models loaded while it has memory; the next test wants that."""
    yield
    comfy.model_management.unload_all_models()


def sample(model: ModelPatcher, reference: Reference, prompts: tuple[Any, Any]) -> Tensor:
    """The stock sampler's clip, from the prior on."""
    latent, denoise = SimilarityPrior.execute(reference, FRAMES, 1.0, 0.5, 9, 18.0, seed=3).args
    sampler = partial(KSampler().sample, model, seed=3, steps=2, cfg=2.0, sampler_name="euler", scheduler="normal")
    (clip,) = sampler(positive=prompts[0], negative=prompts[1], latent_image=latent, denoise=denoise)
    return clip["samples"].cpu()


def check(clip: Tensor, reference: Reference) -> None:
    """Finite numbers, the image in frame 0, and other frames that are not each other."""
    image = reference.latent[0].cpu()
    assert clip.shape == (FRAMES, *image.shape)
    assert clip.isfinite().all()
    assert (clip[0] - image).abs().max() <= 1e-6 * image.abs().max()
    assert not torch.allclose(clip[1], clip[2], rtol=0.1)


def image_to_video(base: Base, motion: str, reference: Reference) -> ModelPatcher:
    """The model with both parts, by our nodes."""
    motion_module = LoadMotionModule.execute(file(motion)).args[0]
    adapter = LoadAdapter.execute(file("i2v-adapter")).args[0]
    assert count(motion_module.model) == PARAMETERS[motion]
    assert count(adapter.model) == ADAPTER_PARAMETERS
    moving = ApplyMotionModule.execute(base.model, motion_module, 1.0, "auto").args[0]
    return ApplyAdapter.execute(moving, adapter, reference, 1.0, hold_first_frame=True).args[0]


@pytest.mark.parametrize("motion", PARAMETERS)
def test_an_image_becomes_a_clip(base: Base, motion: str) -> None:
    reference = base.reference()
    check(sample(image_to_video(base, motion, reference), reference, base.prompts), reference)


def test_the_content_adapter_beside_the_other_two(base: Base) -> None:
    """IP-Adapter Plus with its image encoder."""
    reference = base.reference(*CLIPVisionLoader().load_clip(file("clip-vision-vit-h")))
    content = LoadContentAdapter.execute(file("ip-adapter-plus"), SAME_FILE).args[0]
    assert count(content.projections.model) == PROJECTION_PARAMETERS
    model = image_to_video(base, "animatediff-v1", reference)
    without = sample(model, reference, base.prompts)
    seeing, *prompts = ApplyContentAdapter.execute(model, *base.prompts, content, reference, 1.0).args
    clip = sample(seeing, reference, tuple(prompts))
    check(clip, reference)
    assert not torch.allclose(clip[1:], without[1:], rtol=0.1)
