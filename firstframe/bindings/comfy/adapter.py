"""An I2V adapter on a MODEL."""

from __future__ import annotations

from collections.abc import Callable

from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...errors import FramesError, check_finite
from ...modules.i2v_adapter import I2VAdapter
from ...sampling.guidance import SAME_IMAGE, LowPass
from ...sampling.strength import StrengthSchedule
from .adapter_patches import AdapterPatches, View, projections_kept
from .evaluation import Evaluation, attach
from .first_frame import HELD_FRAMES
from .sites import attention_width, check_fits, check_heads

ADAPTER_KEY = "firstframe_adapter"


def apply_adapter(
    model: ModelPatcher,
    adapter: ModelPatcher,
    strength: float,
    strengths: StrengthSchedule | None = None,
    low_pass: LowPass = SAME_IMAGE,
    fast: bool = False,
) -> ModelPatcher:
    """A clone of ``model`` in which every frame attends to the first one, ``strength`` times.

    ``strengths`` are factors on it over time and space. ``low_pass`` softens what the early steps attend to. ``fast``
    halves the width and height of what is attended to at the highest resolution that has attention. Further frames
    that are held without noise are attended to as the first one is. At strength 0 nothing is computed.

    Raises:
        ModelMismatchError: adapter and model do not belong together.
        InjectionError: an adapter is there already.
    """
    check_finite("the strength of the I2V adapter", strength)
    check_fits(model.model, adapter.model.widths, attention_width, "the I2V adapter")
    check_heads(model.model, adapter.model.heads, "the I2V adapter")

    def evaluate(module: I2VAdapter, call: Evaluation) -> Tensor:
        if strength == 0.0 or call.blind:
            return call.run(call.options)
        if call.num_frames < 2:
            raise FramesError("a clip needs at least two frames: set the latent's batch_size to the number of frames")
        held = call.options.get(HELD_FRAMES, (0,))
        height, width = call.x.shape[2:]
        view = View(
            call.num_frames,
            (height, width),
            strength,
            [slice(first * call.num_frames, behind * call.num_frames) for first, behind in call.runs],
            clean=[place for place, frame in enumerate(call.frames) if frame in held] or [0],
            weights=None if strengths is None else _weights(strengths, call),
            detail=low_pass.detail if not low_pass.is_neutral and low_pass.holds(call.percent) else 1.0,
            fast=fast,
        )
        with projections_kept(call.unet, module) as kept:
            return call.run(AdapterPatches(call.unet, module, view, kept).added_to(call.options))

    return attach(model, ADAPTER_KEY, adapter, evaluate, "an I2V adapter")


def _weights(strengths: StrengthSchedule, call: Evaluation) -> Callable[[tuple[int, int], Tensor], Tensor]:
    latent, frames = (call.x.shape[2], call.x.shape[3]), tuple(call.frames)
    now = 1.0 if strengths.is_steady else strengths.over_steps.at(call.percent)

    def weights(size: tuple[int, int], like: Tensor) -> Tensor:
        def make() -> Tensor:
            return strengths.over_space(frames, latent, size).flatten(1)[..., None].to(like)

        return now * call.once((size, frames, like.device, like.dtype), make)

    return weights
