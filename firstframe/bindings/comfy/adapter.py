"""An I2V adapter on a MODEL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_patcher import ModelPatcher
from einops import rearrange
from torch import Tensor

from ...errors import FramesError
from ...modules.i2v_adapter import I2VAdapter
from ...sampling.guidance import LowPass, softened
from ...sampling.strength import Strengths, size_of
from ...sites import Site
from .evaluation import Evaluation, attach
from .first_frame import NOISY_FRAMES
from .image_gate import rows_of
from .sites import attention_width, check_fits, transformer_at

ADAPTER_KEY = "firstframe_adapter"
STATES = "firstframe_states"
SAME_PICTURE = LowPass()

Attention1Patch = Callable[[Tensor, Tensor, Tensor, dict[str, Any]], tuple[Tensor, Tensor, Tensor]]
Attention1OutputPatch = Callable[[Tensor, dict[str, Any]], Tensor]


def apply_adapter(
    model: ModelPatcher,
    adapter: ModelPatcher,
    strength: float,
    strengths: Strengths | None = None,
    low_pass: LowPass = SAME_PICTURE,
) -> ModelPatcher:
    """A clone of ``model`` in which every frame attends to the first one, ``strength`` times.

    ``strengths`` are factors on it over time and space. ``low_pass`` softens what the early steps attend to. Further
    frames that are held without noise are attended to as the first one is. At strength 0 nothing is computed. Raises
    ModelMismatchError where adapter and model do not belong together, InjectionError where an adapter is there already.
    """
    check_fits(model, adapter.model.widths, attention_width, "the I2V adapter")

    def evaluate(module: I2VAdapter, call: Evaluation) -> Tensor:
        seeing = call.seeing
        if strength == 0.0 or (seeing is not None and not seeing.any()):
            return call.run(call.options)
        if call.num_frames < 2:
            raise FramesError("one frame is no clip: set the latent's batch_size to the number of frames")
        held = call.options.get(NOISY_FRAMES, (0,))
        view = View(
            call.num_frames,
            strength,
            seeing,
            clean=[place for place, frame in enumerate(call.frames) if frame in held] or [0],
            weights=None if strengths is None else _weights(strengths, call),
            soften=_softening(low_pass.detail, call) if low_pass.holds(call.progress) else None,
        )
        return call.run(with_adapter(call.options, call.unet, module, view))

    return attach(model, ADAPTER_KEY, adapter, evaluate, "an I2V adapter")


def _weights(strengths: Strengths, call: Evaluation) -> Callable[[int], Tensor]:
    height, width = call.x.shape[2:]

    def weights(num_places: int) -> Tensor:
        size = size_of((height, width), num_places)
        found = strengths.weights(call.progress, call.frames, (height, width), size)
        return found.flatten(1)[..., None]

    return weights


def _softening(detail: float, call: Evaluation) -> Callable[[Tensor], Tensor]:
    height, width = call.x.shape[2:]

    def soften(states: Tensor) -> Tensor:
        rows, columns = size_of((height, width), states.shape[2])
        maps = rearrange(states, "b r (h w) c -> b c r h w", h=rows, w=columns)
        return rearrange(softened(maps, detail), "b c r h w -> b r (h w) c")

    return soften


@dataclass(frozen=True)
class View:
    """What the adapter sees of a call.

    Attributes:
        seeing: which clips see the picture (clips,); all of them where it is None. The others pass as they are.
        clean: places of the frames in each clip that have no noise.
        weights: from the number of places N of a feature map to factors (F, N, 1).
        soften: from the clean frames' states (B, R, N, C) to those that the others attend to.
    """

    num_frames: int
    strength: float = 1.0
    seeing: Tensor | None = None
    clean: Sequence[int] = (0,)
    weights: Callable[[int], Tensor] | None = None
    soften: Callable[[Tensor], Tensor] | None = None


def with_adapter(options: dict[str, Any], unet: UNetModel, adapter: I2VAdapter, view: View) -> dict[str, Any]:
    """A copy of the transformer options with the adapter's patches: first to see the states, last to add to them."""
    remember, add = adapter_patches(unet, adapter, view)
    patches = options.get("patches", {})
    return {
        **options,
        "patches": {
            **patches,
            "attn1_patch": [remember, *patches.get("attn1_patch", [])],
            "attn1_output_patch": [*patches.get("attn1_output_patch", []), add],
        },
    }


def adapter_patches(unet: UNetModel, adapter: I2VAdapter, view: View) -> tuple[Attention1Patch, Attention1OutputPatch]:
    """The host's two patches around a self-attention. ``extra`` is one and the same dictionary in both."""
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
        x = extra.pop(STATES).unflatten(0, (-1, view.num_frames))  # (B, F, N, C)
        x = x if view.seeing is None else x[view.seeing]
        clean = x[:, list(view.clean)]  # (B, R, N, C)
        clean = clean if view.soften is None else view.soften(clean)
        keys_and_values = adapter[site].project(clean.flatten(1, 2), transformer_at(unet, site).attn1)
        residual = adapter(site, x, *keys_and_values, view.strength)
        if view.weights is not None:
            residual = residual * view.weights(x.shape[2]).to(residual)
        residual = residual.flatten(0, 1)
        if view.seeing is None:
            return out + residual
        return out.index_add(0, rows_of(view.seeing, view.num_frames).to(out.device), residual)

    return remember, add
