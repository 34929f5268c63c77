"""What an applied part does while the host evaluates the UNet once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import CallbacksMP, WrappersMP
from torch import Tensor

from ...errors import InjectionError
from .finite import stop_at_nan
from .image_gate import Seeing, runs_of, seeing_clips
from .once import Once
from .step import share_steps, step_of


@dataclass(frozen=True)
class Evaluation:
    """One call of the UNet.

    Attributes:
        x: the batch (clips*F, C, H, W): the host puts one clip for each conditioning into a call.
        sigma: its noise levels, (clips*F,).
        options: the transformer options.
        arguments: what the conditionings' ``model_conds`` became, by their names.
        once: what is made once in a sampling.
        run: the call itself, with other transformer options.
    """

    unet: UNetModel
    model_sampling: Any
    x: Tensor
    sigma: Tensor
    options: dict[str, Any]
    arguments: dict[str, Any]
    once: Once
    run: Callable[[dict[str, Any]], Tensor]

    @property
    def num_clips(self) -> int:
        return len(self.options["cond_or_uncond"])

    @property
    def num_frames(self) -> int:
        """F, of each clip."""
        return len(self.x) // self.num_clips

    @property
    def percent(self) -> float:
        """How far sampling is, from 0 (all noise) to 1 (none). Waits for the device, once per step."""
        return step_of(self.options).level(self.model_sampling, self.sigma).percent

    @property
    def frames(self) -> Sequence[int]:
        """The numbers of the call's frames in the whole clip."""
        return frames_seen(self.options, self.num_frames)

    @property
    def seeing(self) -> Seeing | None:
        """Which clips see the image; None where all do."""
        return seeing_clips(self.arguments)

    @property
    def runs(self) -> list[tuple[int, int]]:
        """The clips that see the image, as runs (first, behind the last)."""
        return runs_of(self.seeing, self.num_clips)

    @property
    def blind(self) -> bool:
        """Whether no clip sees the image."""
        return not self.runs

    def on_device(self, name: str, carried: Tensor) -> Tensor:
        """What the call's conditionings carry, where it computes; moved once in a sampling."""
        which = conditionings_in(self.options)
        if which is None:
            return carried.to(self.x.device)
        key = (name, which, *self.frames, self.x.device)
        return self.once(key, lambda: carried.to(self.x.device))


Evaluate = Callable[[Any, Evaluation], Tensor]


def conditionings_in(options: dict[str, Any]) -> tuple[Any, ...] | None:
    """What tells the conditionings of a call from those of every other call; None where the host does not say.

    Their ids, which are other ones in every sampling, and the branches of guidance that they stand for: with areas the
    host lends an id of one branch to another.
    """
    if "uuids" not in options:
        return None
    return (*options["uuids"], *options["cond_or_uncond"])


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


def attach(model: ModelPatcher, key: str, module: ModelPatcher, evaluate: Evaluate, what: str) -> ModelPatcher:
    """A clone of ``model`` whose evaluations go through ``evaluate``, with ``module`` as an additional model.

    ``evaluate(module, evaluation)`` answers by ``evaluation.run``. The module is looked up when it is needed: the
    host may have cloned or moved it in the meantime.
    """
    if model.get_additional_models_with_key(key):
        raise InjectionError(f"this model already has {what}; apply it once")
    applied, once = model.clone(), Once()
    applied.set_additional_models(key, [module])
    applied.add_wrapper_with_key(WrappersMP.APPLY_MODEL, key, _wrapper(key, evaluate, once))
    applied.add_callback_with_key(CallbacksMP.ON_CLEANUP, key, once.clear)
    share_steps(applied)
    stop_at_nan(applied)
    return applied


def _wrapper(key: str, evaluate: Evaluate, once: Once) -> Callable[..., Tensor]:
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

        call = Evaluation(base.diffusion_model, base.model_sampling, x, t, transformer_options, kwargs, once, run)
        return evaluate(module, call)

    return wrapper
