"""What an applied part does while the host evaluates the UNet once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_patcher import ModelPatcher
from comfy.model_sampling import ModelSamplingDiscrete
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...errors import InjectionError
from .image_gate import seeing_clips


@dataclass(frozen=True)
class Evaluation:
    """One call of the UNet.

    Attributes:
        x: the batch (clips*F, C, H, W): the host puts one clip for each conditioning into a call.
        sigma: its noise levels, (clips*F,).
        options: the transformer options.
        arguments: what the conditionings' ``model_conds`` became, by their names.
        run: the call itself, with other transformer options.
    """

    unet: UNetModel
    model_sampling: Any
    x: Tensor
    sigma: Tensor
    options: dict[str, Any]
    arguments: dict[str, Any]
    run: Callable[[dict[str, Any]], Tensor]

    @property
    def num_clips(self) -> int:
        return len(self.options["cond_or_uncond"])

    @property
    def num_frames(self) -> int:
        """F, of each clip."""
        return len(self.x) // self.num_clips

    @property
    def progress(self) -> float:
        """How far sampling is, from 0 (all noise) to 1 (none)."""
        return progress(self.model_sampling, self.sigma)

    @property
    def frames(self) -> Sequence[int]:
        """The numbers of the call's frames in the whole clip."""
        return frames_seen(self.options, self.num_frames)

    @property
    def seeing(self) -> Tensor | None:
        """Which clips see the picture, as :func:`.picture_gate.seeing_clips` tells."""
        return seeing_clips(self.arguments, self.num_clips)


Evaluate = Callable[[Any, Evaluation], Tensor]
LAST_TIMESTEP = 999
BISECTIONS = 32


def frames_seen(options: dict[str, Any], num_frames: int) -> Sequence[int]:
    """The numbers of ``num_frames`` frames in the whole clip: those of the context window, if there is one.

    AnimateDiff-Evolved tells the frames of its windows in ``ad_params``, to whoever asks.
    """
    window = options.get("context_window")
    told = options.get("ad_params", {}).get("sub_idxs") if window is None else window.index_list
    listed = list(told or [])
    ahead = getattr(window, "causal_anchor_index", None)
    listed = listed if ahead is None else [ahead, *listed]
    return listed if len(listed) == num_frames else range(num_frames)


def progress(model_sampling: Any, sigma: Tensor) -> float:
    """How far sampling is at ``sigma`` (B,), from 0 (all noise) to 1 (none), as the host's percents count."""
    if isinstance(model_sampling, ModelSamplingDiscrete):
        return float(1.0 - model_sampling.timestep(sigma)[0].item() / LAST_TIMESTEP)
    return _where_it_falls_to(sigma[0].item(), model_sampling.percent_to_sigma)


def _where_it_falls_to(value: float, falling: Callable[[float], float]) -> float:
    """Where in [0, 1] a falling function reaches a value: flow models count their timesteps each in its own way."""
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > value else (low, middle)
    return low


def attach(model: ModelPatcher, key: str, module: ModelPatcher, evaluate: Evaluate, what: str) -> ModelPatcher:
    """A clone of ``model`` whose evaluations go through ``evaluate``, with ``module`` as an additional model.

    ``evaluate(module, evaluation)`` answers by ``evaluation.run``. The module is looked up when it is needed: the
    host may have cloned or moved it in the meantime.
    """
    if model.get_additional_models_with_key(key):
        raise InjectionError(f"this model already has {what}; apply it once")
    applied = model.clone()
    applied.set_additional_models(key, [module])
    applied.add_wrapper_with_key(WrappersMP.APPLY_MODEL, key, _wrapper(key, evaluate))
    return applied


def _wrapper(key: str, evaluate: Evaluate) -> Callable[..., Tensor]:
    def wrapper(
        executor: Any,
        x: Tensor,
        t: Tensor,
        c_concat: Tensor | None,
        c_crossattn: Tensor | None,
        control: Any,
        transformer_options: dict[str, Any],
        **kwargs: Any,
    ) -> Tensor:
        base = executor.class_obj
        module = base.current_patcher.get_additional_models_with_key(key)[0].model

        def run(options: dict[str, Any]) -> Tensor:
            result: Tensor = executor(x, t, c_concat, c_crossattn, control, options, **kwargs)
            return result

        call = Evaluation(base.diffusion_model, base.model_sampling, x, t, transformer_options, kwargs, run)
        return evaluate(module, call)

    return wrapper
