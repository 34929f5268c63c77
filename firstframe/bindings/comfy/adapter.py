"""An I2V adapter on a MODEL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...adapter import I2VAdapter
from ...errors import FramesError
from ...sites import Site
from .evaluation import Evaluation, attach
from .layout import attention_width, check_fits, transformer_at
from .picture_gate import rows_of

ADAPTER_KEY = "firstframe_adapter"
STATES = "firstframe_states"

Attention1Patch = Callable[[Tensor, Tensor, Tensor, dict[str, Any]], tuple[Tensor, Tensor, Tensor]]
Attention1OutputPatch = Callable[[Tensor, dict[str, Any]], Tensor]


def apply_adapter(model: ModelPatcher, adapter: ModelPatcher, strength: float) -> ModelPatcher:
    """A clone of ``model`` in which every frame attends to the first one, ``strength`` times.

    At strength 0 nothing is computed. Raises ModelMismatchError where adapter and model do not belong together,
    InjectionError where an adapter is there already.
    """
    check_fits(model, adapter.model.widths, attention_width, "the I2V adapter")

    def evaluate(module: I2VAdapter, call: Evaluation) -> Tensor:
        seeing = call.seeing
        if strength == 0.0 or (seeing is not None and not seeing.any()):
            return call.run(call.options)
        if call.num_frames < 2:
            raise FramesError("one frame is no clip: set the latent's batch_size to the number of frames")
        return call.run(with_adapter(call.options, call.unet, module, call.num_frames, strength, seeing))

    return attach(model, ADAPTER_KEY, adapter, evaluate, "an I2V adapter")


def with_adapter(
    options: dict[str, Any],
    unet: UNetModel,
    adapter: I2VAdapter,
    num_frames: int,
    strength: float,
    seeing: Tensor | None = None,
) -> dict[str, Any]:
    """A copy of the transformer options with the adapter's patches: first to see the states, last to add to them."""
    remember, add = adapter_patches(unet, adapter, num_frames, strength, seeing)
    patches = options.get("patches", {})
    return {
        **options,
        "patches": {
            **patches,
            "attn1_patch": [remember, *patches.get("attn1_patch", [])],
            "attn1_output_patch": [*patches.get("attn1_output_patch", []), add],
        },
    }


def adapter_patches(
    unet: UNetModel, adapter: I2VAdapter, num_frames: int, strength: float, seeing: Tensor | None = None
) -> tuple[Attention1Patch, Attention1OutputPatch]:
    """The host's two patches around a self-attention. ``extra`` is one and the same dictionary in both.

    Clips that are not ``seeing`` the picture (all are where it is None) pass as they are.
    """
    layers = unet.num_res_blocks[0]

    def remember(
        states: Tensor, context: Tensor, value: Tensor, extra: dict[str, Any]
    ) -> tuple[Tensor, Tensor, Tensor]:
        extra[STATES] = states
        return states, context, value

    def add(out: Tensor, extra: dict[str, Any]) -> Tensor:
        stage, index = extra["block"]
        site = Site.from_ldm(stage, index, layers)
        if site not in adapter:
            return out
        x = extra.pop(STATES).unflatten(0, (-1, num_frames))  # (B, F, N, C)
        x = x if seeing is None else x[seeing]
        attention = transformer_at(unet, site).attn1
        residual = adapter(site, x, *adapter[site].project(x[:, 0], attention), strength).flatten(0, 1)
        if seeing is None:
            return out + residual
        return out.index_add(0, rows_of(seeing, num_frames).to(out.device), residual)

    return remember, add
