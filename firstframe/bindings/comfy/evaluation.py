"""What an applied part does while the host evaluates the UNet once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor, nn

from ...errors import InjectionError
from .picture_gate import seeing_clips

Evaluate = Callable[..., Tensor]


def frames_per_clip(x: Tensor, transformer_options: dict[str, Any]) -> int:
    """F of a batch (chunks*F, C, H, W): the host puts one chunk per conditioning into a call."""
    return x.shape[0] // len(transformer_options["cond_or_uncond"])


def attach(model: ModelPatcher, key: str, module: ModelPatcher, evaluate: Evaluate, what: str) -> ModelPatcher:
    """A clone of ``model`` whose evaluations go through ``evaluate``, with ``module`` as an additional model.

    ``evaluate(module, unet, run, x, transformer_options, seeing)`` calls ``run(transformer_options)`` for the
    evaluation; ``seeing`` tells which clips see the picture, as :func:`.picture_gate.seeing_clips` does. The module
    is looked up when it is needed: the host may have cloned or moved it in the meantime.
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
        module: nn.Module = base.current_patcher.get_additional_models_with_key(key)[0].model

        def run(options: dict[str, Any]) -> Tensor:
            result: Tensor = executor(x, t, c_concat, c_crossattn, control, options, **kwargs)
            return result

        seeing = seeing_clips(kwargs, len(transformer_options["cond_or_uncond"]))
        return evaluate(module, base.diffusion_model, run, x, transformer_options, seeing)

    return wrapper
