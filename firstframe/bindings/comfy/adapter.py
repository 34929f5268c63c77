"""An I2V adapter on a MODEL."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_patcher import ModelPatcher
from einops import rearrange
from torch import Tensor, nn

from ...errors import FramesError
from ...modules.i2v_adapter import I2VAdapter
from ...sampling.guidance import LowPass, softened
from ...sampling.strength import StrengthSchedule, level_of, size_of
from ...sites import Site
from .evaluation import Evaluation, attach
from .first_frame import HELD_FRAMES
from .sites import attention_width, check_fits, check_heads, transformer_at

ADAPTER_KEY = "firstframe_adapter"
STATES = "firstframe_states"
UNTOUCHED = "firstframe_untouched"
SAME_IMAGE = LowPass()

Attention1Patch = Callable[[Tensor, Tensor, Tensor, dict[str, Any]], tuple[Tensor, Tensor, Tensor]]
Attention1OutputPatch = Callable[[Tensor, dict[str, Any]], Tensor]
KeysAndValues = tuple[Tensor, Tensor]


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
            return call.run(with_adapter(call.options, call.unet, module, view, kept))

    return attach(model, ADAPTER_KEY, adapter, evaluate, "an I2V adapter")


def _weights(strengths: StrengthSchedule, call: Evaluation) -> Callable[[tuple[int, int], Tensor], Tensor]:
    latent, frames = (call.x.shape[2], call.x.shape[3]), tuple(call.frames)
    now = 1.0 if strengths.is_steady else strengths.over_steps.at(call.percent)

    def weights(size: tuple[int, int], like: Tensor) -> Tensor:
        def make() -> Tensor:
            return strengths.over_space(frames, latent, size).flatten(1)[..., None].to(like)

        return now * call.once((size, frames, like.device, like.dtype), make)

    return weights


@dataclass(frozen=True)
class View:
    """What the adapter sees of a call.

    Attributes:
        latent: height and width of the latent.
        seeing: rows (clips*F) of the batch that see the image. The others pass as they are.
        clean: places of the frames in each clip that have no noise.
        weights: from the size of a feature map and a tensor of its type to factors (F, N, 1).
        detail: share of the width and height of the clean frames that the others attend to.
        fast: at the highest resolution that has attention, half of that.
    """

    num_frames: int
    latent: tuple[int, int]
    strength: float = 1.0
    seeing: Sequence[slice] = (slice(None),)
    clean: Sequence[int] = (0,)
    weights: Callable[[tuple[int, int], Tensor], Tensor] | None = None
    detail: float = 1.0
    fast: bool = False


@contextmanager
def projections_kept(unet: UNetModel, adapter: I2VAdapter) -> Iterator[dict[nn.Module, Tensor]]:
    """What the layers ``to_k`` and ``to_v`` of the self-attentions made last, by layer. Forward hooks, gone afterwards.

    The adapter's keys and values are the held frame's part of it: nothing is projected, and no offloaded weight is
    fetched, a second time.
    """
    kept: dict[nn.Module, Tensor] = {}

    def keep(layer: nn.Module, _inputs: Any, projected: Tensor) -> None:
        kept[layer] = projected

    with ExitStack() as hooks:
        for site in adapter if not adapter.own_projections else ():
            attention = transformer_at(unet, site).attn1
            for layer in (attention.to_k, attention.to_v):
                hooks.callback(layer.register_forward_hook(keep).remove)
        yield kept


def with_adapter(
    options: dict[str, Any], unet: UNetModel, adapter: I2VAdapter, view: View, kept: dict[nn.Module, Tensor]
) -> dict[str, Any]:
    """A copy of the transformer options with the adapter's patches: first to see the states, last to add to them."""
    remember, compare, add = adapter_patches(unet, adapter, view, kept)
    patches = options.get("patches", {})
    return {
        **options,
        "patches": {
            **patches,
            "attn1_patch": [remember, *patches.get("attn1_patch", []), compare],
            "attn1_output_patch": [*patches.get("attn1_output_patch", []), add],
        },
    }


def adapter_patches(
    unet: UNetModel, adapter: I2VAdapter, view: View, kept: dict[nn.Module, Tensor]
) -> tuple[Attention1Patch, Attention1Patch, Attention1OutputPatch]:
    """The host's patches around a self-attention. ``extra`` is one and the same dictionary in all of them."""
    layers = unet.num_res_blocks[0]
    finest = min((site.block for site in adapter if site.stage == "down"), default=0)

    def remember(
        states: Tensor, context: Tensor, value: Tensor, extra: dict[str, Any]
    ) -> tuple[Tensor, Tensor, Tensor]:
        extra[STATES] = states
        return states, context, value

    def compare(states: Tensor, context: Tensor, value: Tensor, extra: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        extra[UNTOUCHED] = context is value is extra[STATES]
        return states, context, value

    def add(out: Tensor, extra: dict[str, Any]) -> Tensor:
        stage, index = extra["block"]
        site = Site.from_ldm(stage, index, layers, extra["block_index"])
        states, untouched = extra.pop(STATES), extra.pop(UNTOUCHED)
        if site not in adapter:
            return out
        size = size_of(view.latent, states.shape[1])
        attention = transformer_at(unet, site).attn1
        projected = [kept.pop(layer) for layer in (attention.to_k, attention.to_v) if layer in kept]
        usable = untouched and view.detail == 1.0 and len(projected) == 2
        halved = view.fast and level_of(view.latent, size) == finest

        def keys_and_values(rows: slice) -> KeysAndValues:
            if usable:
                key, value = (_clean(whole[rows], view) for whole in projected)
            else:
                key, value = adapter[site].project(_softened(_clean(states[rows], view), size, view.detail), attention)
            return (_halved(key, size), _halved(value, size)) if halved else (key, value)

        for rows in view.seeing:
            clips = _clips(states[rows], view)
            residual = adapter(site, clips, *keys_and_values(rows), view.strength)
            if view.weights is not None:
                residual = residual * view.weights(size, residual)
            out[rows].add_(residual.flatten(0, 1))
        return out

    return remember, compare, add


def _clips(rows: Tensor, view: View) -> Tensor:
    """(B*F, N, C) to (B, F, N, C)."""
    return rows.reshape(-1, view.num_frames, *rows.shape[1:])


def _clean(rows: Tensor, view: View) -> Tensor:
    """The frames without noise of clips (B*F, N, C), behind each other (B, R*N, C)."""
    clips = _clips(rows, view)
    if len(view.clean) == 1:
        return clips[:, view.clean[0]]
    return torch.cat([clips[:, place] for place in view.clean], dim=1)


def _softened(states: Tensor, size: tuple[int, int], detail: float) -> Tensor:
    """States of clean frames (B, R*N, C) with ``detail`` of their resolution, in the same size."""
    if detail == 1.0:
        return states
    maps = rearrange(states, "b (r h w) c -> b c r h w", h=size[0], w=size[1])
    return rearrange(softened(maps, detail), "b c r h w -> b (r h w) c")


def _halved(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """Every second token in height and width (Token Downsampling, arXiv 2402.13573, Section 3.2)."""
    maps = rearrange(tokens, "b (r h w) c -> b r h w c", h=size[0], w=size[1])
    return maps[:, :, ::2, ::2].flatten(1, 3)
