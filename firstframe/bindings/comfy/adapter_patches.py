"""What the adapter does inside of the host's self-attentions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from einops import rearrange
from torch import Tensor, nn

from ...modules.i2v_adapter import I2VAdapter
from ...sampling.guidance import softened_tokens
from ...sampling.strength import level_of, size_of
from ...sites import Site
from .sites import transformer_at

STATES = "firstframe_states"
UNTOUCHED = "firstframe_untouched"


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


@dataclass(frozen=True, eq=False)
class AdapterPatches:
    """The host's patches around a self-attention. ``extra`` is one and the same dictionary in all of them.

    Attributes:
        kept: what the base's own ``to_k`` and ``to_v`` made, from `projections_kept`.
    """

    unet: UNetModel
    adapter: I2VAdapter
    view: View
    kept: dict[nn.Module, Tensor]

    @property
    def finest_level(self) -> int:
        """The highest resolution with attention: how often the latent is halved before it."""
        return min((site.block for site in self.adapter if site.stage == "down"), default=0)

    def added_to(self, options: dict[str, Any]) -> dict[str, Any]:
        """A copy of the transformer options with the patches: first to see the states, last to add to them."""
        patches = options.get("patches", {})
        return {
            **options,
            "patches": {
                **patches,
                "attn1_patch": [self.remember, *patches.get("attn1_patch", []), self.compare],
                "attn1_output_patch": [*patches.get("attn1_output_patch", []), self.add],
            },
        }

    def remember(
        self, states: Tensor, context: Tensor, value: Tensor, extra: dict[str, Any]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Keeps the states before the patches of others."""
        extra[STATES] = states
        return states, context, value

    def compare(
        self, states: Tensor, context: Tensor, value: Tensor, extra: dict[str, Any]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Notes whether others changed what is attended to."""
        extra[UNTOUCHED] = context is value is extra[STATES]
        return states, context, value

    def add(self, out: Tensor, extra: dict[str, Any]) -> Tensor:
        """Adds the adapter's residual to the rows (B*F, N, C) that see the image."""
        stage, index = extra["block"]
        site = Site.from_ldm(stage, index, self.unet.num_res_blocks[0], extra.get("block_index", 0))
        states, untouched = extra.pop(STATES), extra.pop(UNTOUCHED)
        if site not in self.adapter:
            return out
        view, size = self.view, size_of(self.view.latent, states.shape[1])
        attention = transformer_at(self.unet, site).attn1
        projected = [self.kept.pop(layer) for layer in (attention.to_k, attention.to_v) if layer in self.kept]
        usable = untouched and view.detail == 1.0 and len(projected) == 2
        for rows in view.seeing:
            if usable:
                key, value = (_clean(whole[rows], view) for whole in projected)
            else:
                clean = softened_tokens(_clean(states[rows], view), size, view.detail)
                key, value = self.adapter[site].project(clean, attention)
            if view.fast and level_of(view.latent, size) == self.finest_level:
                key, value = _halved(key, size), _halved(value, size)
            residual = self.adapter(site, _clips(states[rows], view), key, value, view.strength)
            if view.weights is not None:
                residual = residual * view.weights(size, residual)
            out[rows].add_(residual.flatten(0, 1))
        return out


def _clips(rows: Tensor, view: View) -> Tensor:
    """(B*F, N, C) to (B, F, N, C)."""
    return rows.reshape(-1, view.num_frames, *rows.shape[1:])


def _clean(rows: Tensor, view: View) -> Tensor:
    """The frames without noise of clips (B*F, N, C), behind each other (B, R*N, C)."""
    clips = _clips(rows, view)
    if len(view.clean) == 1:
        return clips[:, view.clean[0]]
    return torch.cat([clips[:, place] for place in view.clean], dim=1)


def _halved(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """Every second token in height and width (Token Downsampling, arXiv 2402.13573, Section 3.2)."""
    maps = rearrange(tokens, "b (r h w) c -> b r h w c", h=size[0], w=size[1])
    return maps[:, :, ::2, ::2].flatten(1, 3)
