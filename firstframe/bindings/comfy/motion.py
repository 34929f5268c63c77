"""A motion module on a MODEL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import comfy.lora
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock, UNetModel
from comfy.model_patcher import ModelPatcher
from einops import rearrange
from torch import Tensor, nn

from ...errors import INTERRUPT, ModelMismatchError, check_finite
from ...modules.motion import MotionModule
from ...shapes import fold_frames, unfold_frames
from ...weights.files import StateDict
from .evaluation import Evaluation, attach
from .preview import preview_all_frames
from .schedule import motion_schedule
from .sites import check_fits, motion_layer, motion_width

MOTION_KEY = "firstframe_motion"


def apply_motion(
    model: ModelPatcher, motion: ModelPatcher, scale: float, schedule: Literal["auto", "keep"]
) -> ModelPatcher:
    """A clone of ``model`` in which the frames of a batch see each other.

    ``schedule`` "auto" sets the noise schedule that the motion module was trained with, "keep" keeps the model's.
    Raises ModelMismatchError where module and model do not belong together, InjectionError where a motion module
    is there already.
    """
    check_finite("the strength of the motion module", scale)
    check_fits(model.model, motion.model.widths, motion_width, "the motion module")

    def evaluate(module: MotionModule, call: Evaluation) -> Tensor:
        with injected_motion(call.unet, module, call.num_frames, scale):
            return call.run(call.options)

    applied = preview_all_frames(attach(model, MOTION_KEY, motion, evaluate, "a motion module"))
    if schedule == "auto":
        applied.add_object_patch("model_sampling", motion_schedule(applied, motion.model.config.betas))
    return applied


def add_motion_lora(motion: ModelPatcher, lora: StateDict, strength: float) -> ModelPatcher:
    """A clone of ``motion`` with a motion LoRA in it; several add up.

    Raises ModelMismatchError for a LoRA that changes layers which the motion module lacks, or of another width.
    """
    check_finite("the strength of the motion LoRA", strength)
    layers = sorted({name.partition(".lora_")[0] for name in lora})
    weights = motion.model.state_dict()
    for layer in layers:
        width = len(lora[f"{layer}.lora_up.weight"])
        if f"{layer}.weight" not in weights or len(weights[f"{layer}.weight"]) != width:
            raise ModelMismatchError(
                f"the motion LoRA changes {layer}, {width} wide, which this motion module does not have. "
                "AnimateDiff's motion LoRAs belong to its motion module v2"
            )
    patches = comfy.lora.load_lora(dict(lora), {layer: f"{layer}.weight" for layer in layers})
    changed = motion.clone()
    changed.add_patches(patches, strength)
    return changed


@contextmanager
def injected_motion(unet: UNetModel, motion: MotionModule, num_frames: int, scale: float) -> Iterator[None]:
    """Run the UNet on clips of ``num_frames`` with the motion module in it. Forward hooks, gone afterwards.

    Raises FramesError before anything runs if the module has no positions for so many frames.
    """
    motion.check_frames(num_frames)

    def after_layer(site: Any) -> Callable[..., Tensor]:
        def hook(_layer: nn.Module, _inputs: Any, x: Tensor) -> Tensor:
            if not torch.compiler.is_compiling():
                INTERRUPT.check()  # the oldest hosts ask once a step, which can take minutes
            return fold_frames(motion(site, unfold_frames(x, num_frames), scale))

        return hook

    with ExitStack() as hooks:
        for site in motion:
            layer = motion_layer(unet, site)
            hooks.callback(layer.register_forward_hook(after_layer(site)).remove)
        if motion.config.pooled_unet_norms:
            hooks.enter_context(pooled_norms(unet, num_frames))
        yield


@contextmanager
def pooled_norms(unet: UNetModel, num_frames: int) -> Iterator[None]:
    """The group norms of the residual blocks and the last one take their statistics over all frames of a clip.

    AnimateDiff v1 (``use_inflated_groupnorm: false``) and Hotshot-XL were trained like this. Stacking the frames on top
    of each other makes one tall image of a clip, whose statistics are the pooled ones.
    """

    def stack(_norm: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (rearrange(inputs[0], "(b f) c h w -> b c (f h) w", f=num_frames),)

    def unstack(_norm: nn.Module, _inputs: Any, x: Tensor) -> Tensor:
        return rearrange(x, "b c (f h) w -> (b f) c h w", f=num_frames)

    blocks = [module for module in unet.modules() if isinstance(module, ResBlock)]
    norms = [norm for block in blocks for norm in (block.in_layers[0], block.out_layers[0])] + [unet.out[0]]
    with ExitStack() as hooks:
        for norm in norms:
            hooks.callback(norm.register_forward_pre_hook(stack).remove)
            hooks.callback(norm.register_forward_hook(unstack).remove)
        yield
