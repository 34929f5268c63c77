"""Ours together with other packs, the real ones.

FIRSTFRAME_PACKS names the folder with checkouts of them (default ~/comfy/packs); those that are not there are skipped.
Their weights are random; AnimateDiff-Evolved takes motion modules for Stable Diffusion 1.5 alone, so that its UNet has
those widths: 5 GB of memory.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import comfy.clip_vision
import comfy.model_management
import comfy.sample
import comfy.samplers
import folder_paths
import pytest
import torch
from comfy.model_patcher import ModelPatcher
from comfy_extras.nodes_custom_sampler import Guider_DualCFG
from comfyui_firstframe_pack.firstframe.bindings.comfy.adapter import apply_adapter
from comfyui_firstframe_pack.firstframe.bindings.comfy.first_frame import hold_first_frame
from comfyui_firstframe_pack.firstframe.bindings.comfy.motion import apply_motion
from comfyui_firstframe_pack.firstframe.bindings.comfy.retention import apply_retention
from comfyui_firstframe_pack.firstframe.bindings.comfy.windows import apply_windows
from comfyui_firstframe_pack.firstframe.clips.reference import prepare_image
from comfyui_firstframe_pack.firstframe.clips.video import read_clip
from comfyui_firstframe_pack.firstframe.modules.motion import MotionConfig, MotionModule, sinusoidal_positions
from comfyui_firstframe_pack.firstframe.sampling.strength import Curve, StrengthSchedule
from comfyui_firstframe_pack.firstframe.sites import UNetConfig
from comfyui_firstframe_pack.firstframe.weights.keymaps import ANIMATEDIFF, to_theirs
from comfyui_firstframe_pack.nodes.guidance import DualCFGGuider
from comfyui_firstframe_pack.nodes.load import EXAMPLE_IMAGE
from comfyui_firstframe_pack.nodes.prior import SimilarityPrior
from conftest import HOST
from harness import Server, find_node, quickstart, running_server
from safetensors.torch import save_file
from small import (
    FRAMES,
    MAX_FRAMES,
    SIDE,
    SMALL,
    conditioning,
    ksample,
    randomise,
    reference,
    reference_latent,
    relative_error,
    small_adapter,
    small_controlnet,
    small_model,
    small_motion,
    small_retention,
    start_latent,
)
from torch import Tensor

PACKS = Path(os.environ.get("FIRSTFRAME_PACKS", Path.home() / "comfy" / "packs")).expanduser()
ANIMATEDIFF_EVOLVED = "ComfyUI-AnimateDiff-Evolved"
IPADAPTER_PLUS = "ComfyUI_IPAdapter_plus"
ADVANCED_CONTROLNET = "ComfyUI-Advanced-ControlNet"
VIDEO_HELPER_SUITE = "ComfyUI-VideoHelperSuite"
NEEDED_MODULES = {VIDEO_HELPER_SUITE: ["cv2", "imageio_ffmpeg"]}

SD15_WIDE = UNetConfig((320, 640, 1280, 1280), 2, (True, False, False, False), num_heads=8, cross_attention_dim=32)
CLIP, LONG, WINDOW, OVERLAP = 4, 7, 4, 2
TOLERANCE = 0.01
UNGUIDED = {"image_start": 0.0, "image_end": 1.0, "text_start": 0.0, "text_end": 1.0, "parallel": 1.0, "rescale": 0.0}

sample = partial(ksample, steps=2)


def row(feature: str, *packs: str) -> Callable[[Any], Any]:
    """A row of docs/compatibility.md about packs; skipped where one of them, or what it needs, is missing."""
    missing = [pack for pack in packs if not (PACKS / pack / "__init__.py").is_file()]
    modules = [module for pack in packs for module in NEEDED_MODULES.get(pack, [])]
    missing += [f"Python's {module}" for module in modules if importlib.util.find_spec(module) is None]
    reason = f"PACK NOT TESTED: no {', '.join(missing)} (packs are looked for in FIRSTFRAME_PACKS)"
    return lambda test: pytest.mark.feature(feature)(pytest.mark.skipif(bool(missing), reason=reason)(test))


def module_of(pack: str, name: str = "") -> Any:
    """A module of a pack, which is imported as the host imports packs."""
    package = pack.replace("-", "_")
    if package not in sys.modules:
        spec = importlib.util.spec_from_file_location(package, PACKS / pack / "__init__.py")
        sys.modules[package] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[package])
    return importlib.import_module(f"{package}{name}")


def image_to_video(
    model: ModelPatcher, config: UNetConfig = SMALL, strengths: StrengthSchedule | None = None
) -> ModelPatcher:
    return hold_first_frame(apply_adapter(model, small_adapter(config), 1.0, strengths), reference_latent())


def retained(prompts: list[Any], config: UNetConfig = SMALL) -> list[Any]:
    return apply_retention(prompts, small_retention(config), reference(), 1.0, 0.0, 1.0)


def guided_sample(guider: comfy.samplers.CFGGuider, latent: Tensor) -> Tensor:
    """What the node SamplerCustomAdvanced does."""
    sampling = guider.model_patcher.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "normal", 2)
    euler = comfy.samplers.sampler_object("euler")
    return guider.sample(comfy.sample.prepare_noise(latent, 5), latent, euler, sigmas, disable_pbar=True, seed=5)


def dual_guider(model: ModelPatcher, image_scale: float, text_scale: float) -> comfy.samplers.CFGGuider:
    scales = {"image_scale": image_scale, "text_scale": text_scale}
    return DualCFGGuider.execute(model, conditioning(1), conditioning(2), **scales, **UNGUIDED).args[0]


def core_guider(model: ModelPatcher, image_scale: float, text_scale: float) -> comfy.samplers.CFGGuider:
    """DualCFGGuider, the host's own. Its middle is the negative prompt, so that the scale of the text is all it has."""
    guider = Guider_DualCFG(model)
    guider.set_cfg(text_scale, image_scale)
    guider.set_conds(conditioning(1), conditioning(2), conditioning(2))
    return guider


def check(clip: Tensor, without: Tensor) -> None:
    """The image in frame 0, finite numbers behind it, and other ones than ``without``."""
    assert torch.allclose(clip[:1], reference_latent(), atol=1e-5)
    assert clip.isfinite().all()
    assert not torch.allclose(clip[1:], without[1:], rtol=1e-2)


# AnimateDiff-Evolved


def motion_file(max_frames: int) -> dict[str, Tensor]:
    """A motion module for the UNet's first half, in the names and sizes of AnimateDiff."""
    config = MotionConfig(SD15_WIDE.block_out_channels, 2, mid=False, max_frames=max_frames, num_heads=8)
    with torch.device("meta"):
        shapes = to_theirs(MotionModule(config).state_dict(), ANIMATEDIFF)
    generator = torch.Generator().manual_seed(4)

    def numbers(name: str, shape: torch.Size) -> Tensor:
        if name.endswith(".pe"):
            return sinusoidal_positions(*shape[1:])
        if len(shape) == 1:
            return torch.full(shape, float(name.endswith(".weight")))
        return torch.randn(shape, generator=generator) / shape[1] ** 0.5

    return {name: numbers(name, meta.shape).half() for name, meta in shapes.items() if name.startswith("down")}


@pytest.fixture(scope="module")
def motion_files(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where AnimateDiff-Evolved looks: one that it takes for v1, with pooled norms, and one that it takes for v3."""
    folder = tmp_path_factory.mktemp("animatediff_models")
    folder_paths.add_model_folder_path("animatediff_models", str(folder))
    for name, max_frames in (("v1", 24), ("v3", 32)):
        save_file(motion_file(max_frames), folder / f"{name}.safetensors")


@pytest.fixture(scope="module")
def base() -> Iterator[ModelPatcher]:
    with torch.inference_mode():
        yield small_model(SD15_WIDE)
    comfy.model_management.unload_all_models()


def first_loader(model: ModelPatcher, context: Any = None) -> ModelPatcher:
    """AnimateDiff Loader (Gen 1)."""
    loader = module_of(ANIMATEDIFF_EVOLVED).NODE_CLASS_MAPPINGS["ADE_AnimateDiffLoaderGen1"]()
    return loader.load_mm_and_inject_params(model, "v3.safetensors", "autoselect", context_options=context)[0]


def second_loader(model: ModelPatcher) -> ModelPatcher:
    """Load AnimateDiff Model, Apply AnimateDiff Model, Use Evolved Sampling (Gen 2)."""
    nodes = module_of(ANIMATEDIFF_EVOLVED).NODE_CLASS_MAPPINGS
    (motion,) = nodes["ADE_LoadAnimateDiffModel"]().load_motion_model("v1.safetensors")
    (motions,) = nodes["ADE_ApplyAnimateDiffModel"]().apply_motion_model(motion)
    return nodes["ADE_UseEvolvedSampling"]().use_evolved_sampling(model, "autoselect", m_models=motions)[0]


def in_their_windows(model: ModelPatcher) -> ModelPatcher:
    """With Context Options: Standard Static."""
    options = module_of(ANIMATEDIFF_EVOLVED).NODE_CLASS_MAPPINGS["ADE_StandardStaticContextOptions"]()
    return first_loader(model, options.create_options(WINDOW, OVERLAP)[0])


@row("AnimateDiff-Evolved: adapter, prior and retention on its MODEL", ANIMATEDIFF_EVOLVED)
@pytest.mark.parametrize("load", [first_loader, second_loader])
def test_our_parts_on_its_model(motion_files: None, base: ModelPatcher, load: Callable[..., ModelPatcher]) -> None:
    moving = load(base)
    start, denoise = SimilarityPrior.execute(reference(), CLIP, 0.9, 0.5, 9, 18.0, seed=3).args
    run = partial(sample, latent=start["samples"], denoise=denoise)
    alone = run(moving)
    assert not torch.allclose(alone, run(base), rtol=1e-2), "its motion module does something"
    clip = run(image_to_video(moving, SD15_WIDE))
    check(clip, alone)
    prompts = retained([conditioning(1), conditioning(2)], SD15_WIDE)
    check(run(image_to_video(moving, SD15_WIDE), prompts=prompts), clip)
    assert torch.equal(run(moving), alone), "ours leaves no trace"


@row("AnimateDiff-Evolved: dual guidance on its MODEL", ANIMATEDIFF_EVOLVED)
def test_our_guider_on_its_model(motion_files: None, base: ModelPatcher) -> None:
    moving = first_loader(base)
    model = image_to_video(moving, SD15_WIDE)
    check(guided_sample(dual_guider(model, 1.5, 3.0), start_latent(CLIP)), sample(moving, start_latent(CLIP)))
    plain = guided_sample(dual_guider(moving, 1.0, 3.0), start_latent(CLIP))
    torch.testing.assert_close(plain, sample(moving, start_latent(CLIP)), rtol=1e-3, atol=1e-3)


@row("AnimateDiff-Evolved: its context options", ANIMATEDIFF_EVOLVED)
def test_our_parts_in_its_windows(motion_files: None, base: ModelPatcher) -> None:
    moving = in_their_windows(base)
    clip = sample(image_to_video(moving, SD15_WIDE), start_latent(LONG), steps=1)
    check(clip, sample(moving, start_latent(LONG), steps=1))
    prompts = retained([conditioning(1), conditioning(2)], SD15_WIDE)
    check(sample(image_to_video(moving, SD15_WIDE), start_latent(LONG), steps=1, prompts=prompts), clip)


@row("AnimateDiff-Evolved: its context options", ANIMATEDIFF_EVOLVED)
def test_frames_keep_their_numbers_in_its_windows(motion_files: None, base: ModelPatcher) -> None:
    """The adapter on the last frame alone touches the windows that have it, and no other."""
    moving = in_their_windows(base)
    last = StrengthSchedule(Curve.parse("0: 1"), Curve.parse(f"{LONG - 2}: 0, {LONG - 1}: 1"))
    adapted = apply_adapter(moving, small_adapter(SD15_WIDE), 1.0, last)
    clip, without = (sample(model, start_latent(LONG), steps=1) for model in (adapted, moving))
    assert torch.equal(clip[:OVERLAP], without[:OVERLAP])
    assert not torch.allclose(clip[-1], without[-1], rtol=1e-2)


@row("AnimateDiff-Evolved: dual guidance in its context options", ANIMATEDIFF_EVOLVED)
def test_our_guider_in_its_windows(motion_files: None, base: ModelPatcher) -> None:
    """Its windows ask for guiders that call ``comfy.samplers.sampling_function``, which it replaces."""
    moving = in_their_windows(base)
    model = image_to_video(moving, SD15_WIDE)
    try:
        clip = guided_sample(dual_guider(model, 1.5, 3.0), start_latent(LONG))
    except KeyError as error:
        with pytest.raises(KeyError, match=error.args[0]):
            guided_sample(core_guider(moving, 1.5, 3.0), start_latent(LONG))
        pytest.xfail(f"without us too: ComfyUI's own DualCFGGuider ends in KeyError {error} there")
    check(clip, sample(moving, start_latent(LONG)))


@row(
    "AnimateDiff-Evolved: its context options with Advanced-ControlNet, hints for each frame and retention",
    ANIMATEDIFF_EVOLVED,
    ADVANCED_CONTROLNET,
)
def test_a_whole_graph_of_three_packs(motion_files: None, base: ModelPatcher) -> None:
    prompts = with_control([conditioning(1), conditioning(2)], LONG, SD15_WIDE)
    model = image_to_video(in_their_windows(base), SD15_WIDE)
    controlled = sample(model, start_latent(LONG), steps=1, prompts=prompts)
    check(controlled, sample(model, start_latent(LONG), steps=1))
    check(sample(model, start_latent(LONG), steps=1, prompts=retained(prompts, SD15_WIDE)), controlled)


# IPAdapter_plus


@pytest.fixture(scope="module")
def image_encoder(tmp_path_factory: pytest.TempPathFactory) -> comfy.clip_vision.ClipVisionModel:
    config = {
        "model_type": "clip_vision_model",
        "num_hidden_layers": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 2,
        "num_channels": 3,
        "image_size": 224,
        "patch_size": 56,
        "projection_dim": 32,
        "hidden_act": "quick_gelu",
    }
    file = tmp_path_factory.mktemp("clip_vision") / "config.json"
    file.write_text(json.dumps(config), "utf-8")
    with torch.inference_mode():
        encoder = comfy.clip_vision.ClipVisionModel(str(file))
        randomise(encoder.model, 13)
    return encoder


def ip_adapter(width: int = 32, tokens: int = 4) -> dict[str, dict[str, Tensor]]:
    """An IP-Adapter as its loader gives it. Of the places that it patches, the small UNet has two, 32 wide."""
    generator = torch.Generator().manual_seed(14)

    def linear(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) / shape[1] ** 0.5

    projection = {"proj.weight": linear(tokens * width, width), "proj.bias": torch.zeros(tokens * width)}
    norm = {"norm.weight": torch.ones(width), "norm.bias": torch.zeros(width)}
    layers = {f"{2 * place + 1}.to_{name}_ip.weight": linear(width, width) for place in range(16) for name in "kv"}
    return {"image_proj": {**projection, **norm}, "ip_adapter": layers}


def with_ip_adapter(model: ModelPatcher, encoder: comfy.clip_vision.ClipVisionModel) -> ModelPatcher:
    """IPAdapter Advanced."""
    node = module_of(IPADAPTER_PLUS).NODE_CLASS_MAPPINGS["IPAdapterAdvanced"]()
    image = reference().pixels.movedim(1, -1)
    return node.apply_ipadapter(model, ip_adapter(), image=image, clip_vision=encoder)[0]


def ours(model: ModelPatcher) -> ModelPatcher:
    return image_to_video(apply_motion(model, small_motion(), 1.0, "auto"))


@row("IPAdapter_plus before and behind ours", IPADAPTER_PLUS)
def test_ip_adapter_before_and_behind(image_encoder: comfy.clip_vision.ClipVisionModel) -> None:
    before = sample(ours(with_ip_adapter(small_model(), image_encoder)))
    behind = sample(with_ip_adapter(ours(small_model()), image_encoder))
    check(before, sample(ours(small_model())))
    check(behind, sample(with_ip_adapter(small_model(), image_encoder)))
    assert torch.equal(before, behind)


@row("IPAdapter_plus with dual guidance", IPADAPTER_PLUS)
def test_ip_adapter_with_our_guider(image_encoder: comfy.clip_vision.ClipVisionModel) -> None:
    """At equal scales, three conditionings in a call guide as two do: its image is on the prompt's side.

    It tells by the place of a conditioning in the call whether it is the prompt.
    """
    model = with_ip_adapter(apply_motion(small_model(), small_motion(), 1.0, "auto"), image_encoder)
    plain = guided_sample(dual_guider(model, 3.0, 3.0), start_latent())
    torch.testing.assert_close(plain, sample(model), rtol=1e-3, atol=1e-3)
    if relative_error(guided_sample(dual_guider(model, 3.0, 3.001), start_latent()), plain) > TOLERANCE:
        assert relative_error(guided_sample(core_guider(model, 3.001, 3.0), start_latent()), plain) > TOLERANCE
        pytest.xfail("without us too: with ComfyUI's own DualCFGGuider its image is on the negative prompt's side")


# Advanced-ControlNet


def hints(frames: int) -> Tensor:
    return torch.rand(frames, 8 * SIDE, 8 * SIDE, 3, generator=torch.Generator().manual_seed(12))


def with_control(prompts: list[Any], frames: int, config: UNetConfig = SMALL, **keyframes: Any) -> list[Any]:
    """Apply Advanced ControlNet: one image for each frame."""
    node = module_of(ADVANCED_CONTROLNET, ".adv_control.nodes_main").AdvancedControlNetApply
    return list(node.execute(*prompts, small_controlnet(config), hints(frames), 1.0, 0.0, 1.0, **keyframes).args)


def keyframes(strengths: list[float], start: float = 0.0) -> Any:
    """Timestep Keyframe, with Latent Keyframe From List: the strength on each frame."""
    nodes = module_of(ADVANCED_CONTROLNET, ".adv_control.nodes_keyframes")
    (latents,) = nodes.LatentKeyframeBatchedGroupNode.execute(strengths).args
    return nodes.TimestepKeyframeNode.execute(start, latent_keyframe=latents).args[0]


@row("Advanced-ControlNet: hints and keyframes for each frame, with retention", ADVANCED_CONTROLNET)
def test_advanced_control_and_retention_in_both_orders() -> None:
    prompts, model = [conditioning(1), conditioning(2)], ours(small_model())
    control = partial(with_control, frames=FRAMES, timestep_kf=keyframes([1.0, 0.5, 0.0]))
    both = sample(model, prompts=retained(control(prompts)))
    check(both, sample(model, prompts=control(prompts)))
    check(both, sample(model, prompts=retained(prompts)))
    torch.testing.assert_close(sample(model, prompts=control(retained(prompts))), both, rtol=1e-3, atol=1e-3)


@row("Advanced-ControlNet: hints and keyframes for each frame, with retention", ADVANCED_CONTROLNET)
def test_keyframes_choose_the_frames() -> None:
    """Frames that do not see each other: a control at strength 0 is none."""
    prompts, model = [conditioning(1), conditioning(2)], small_model()
    without = sample(model, prompts=prompts)
    clip = sample(model, prompts=with_control(prompts, FRAMES, timestep_kf=keyframes([1.0, 0.0, 1.0])))
    assert torch.equal(clip[1], without[1])
    assert not torch.allclose(clip[[0, 2]], without[[0, 2]], rtol=1e-2)


@row("Advanced-ControlNet: hints for each frame in our context windows", ADVANCED_CONTROLNET)
def test_advanced_control_in_our_windows() -> None:
    """Without motion module and adapter, windows change nothing."""
    model, frames = small_model(), 11
    prompts = with_control([conditioning(1), conditioning(2)], frames)
    whole = sample(model, start_latent(frames), prompts=prompts)
    windowed = sample(apply_windows(model, MAX_FRAMES, OVERLAP), start_latent(frames), prompts=prompts)
    torch.testing.assert_close(windowed, whole, rtol=1e-3, atol=1e-2)


# VideoHelperSuite


@pytest.fixture(scope="module")
def server_with_packs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with every pack that is there."""
    packs = [folder for folder in PACKS.iterdir() if (folder / "__init__.py").is_file()] if PACKS.is_dir() else []
    with running_server(HOST, tmp_path_factory.mktemp("with_packs"), packs) as running:
        yield running


@row("VideoHelperSuite: Video Combine on our frames", VIDEO_HELPER_SUITE)
@pytest.mark.parametrize(("format", "suffix"), [("video/h264-mp4", ".mp4"), ("image/gif", ".gif")])
def test_video_combine(server_with_packs: Server, format: str, suffix: str) -> None:
    graph = quickstart()
    saver = find_node(graph, "FirstFrameSaveVideo")
    saver["class_type"] = "VHS_VideoCombine"
    saver["inputs"] = {
        "images": saver["inputs"]["images"],
        "frame_rate": 8,
        "loop_count": 0,
        "filename_prefix": "theirs",
        "format": format,
        "pix_fmt": "yuv420p",
        "crf": 10,
        "pingpong": False,
        "save_output": True,
    }
    outcome = server_with_packs.run(graph)
    assert outcome.event == "execution_success", outcome.data
    (shown,) = [file for output in outcome.outputs.values() for file in output["gifs"]]
    file = server_with_packs.base / "output" / shown["filename"]
    assert file.suffix == suffix
    frames = read_clip(file).frames
    assert len(frames) == 16
    image = prepare_image(EXAMPLE_IMAGE, 128, 128)[0].movedim(0, -1)
    assert (frames[0] / 255 - image).abs().mean() < 0.05
