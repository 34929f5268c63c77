"""What other nodes do to guidance: the host's pre-CFG, CFG and post-CFG functions, in guidance with two scales."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from comfy.model_base import BaseModel
from comfy.samplers import cfg_function
from torch import Tensor

from ...sampling.guidance import Branch, Scales

PRE_CFG = "sampler_pre_cfg_function"
CFG = "sampler_cfg_function"
POST_CFG = "sampler_post_cfg_function"


@dataclass(frozen=True)
class GuidanceStep:
    """One step of guidance with two scales, as the host's functions know plain guidance.

    Plain guidance combines a pair of predictions: ``negative + scale (positive - negative)``. Here ``positive`` is the
    strongest branch that is evaluated, *full*, and ``negative`` the weakest, whatever the scales are.

    Functions that combine the pair (pre-CFG functions such as APG, TCFG and FreSca, and CFG functions such as
    RescaleCFG) receive `effective_negative` in place of ``negative``: between it and ``positive``, plain
    guidance gives the result of both scales. Functions that run after guidance (SAG, PAG, CFG-Zero*) receive
    ``negative`` itself, since they may evaluate the model on its conditioning again. With equal scales the two are
    the same, and so is the result of plain guidance with these functions.

    Attributes:
        model: the host's model.
        x: the sampler's latents, (B, C, H, W) or (B, C, F, H, W).
        sigma: their noise levels, (B,).
        conds: the conditionings of ``positive`` and ``negative``.
        positive, negative: clean latents, of the shape of ``x``.
        guided: the result of guidance with two scales, of the shape of ``x``.
        scale: the one that functions receive as ``cond_scale``: of both, the one that is further from 1.
    """

    model: BaseModel
    x: Tensor
    sigma: Tensor
    conds: tuple[Any, Any]
    positive: Tensor
    negative: Tensor
    guided: Tensor
    scale: float

    @classmethod
    def of(
        cls,
        scales: Scales,
        conds: Mapping[Branch, Any],
        predictions: Mapping[Branch, Tensor],
        guided: Tensor,
        **call: Any,
    ) -> GuidanceStep:
        """Of the conditionings and predictions of ``scales.branches``; ``call`` has ``model``, ``x`` and ``sigma``."""
        weakest, strongest = scales.branches[0], scales.branches[-1]
        return cls(
            conds=(conds[strongest], conds[weakest]),
            positive=predictions[strongest],
            negative=predictions[weakest],
            guided=guided,
            scale=max(scales.text, scales.image, key=lambda scale: abs(scale - 1.0)),
            **call,
        )

    @property
    def effective_negative(self) -> Tensor:
        """N with ``N + scale (positive - N) = guided``."""
        return self.positive - (self.guided - self.positive) / (self.scale - 1.0)


def with_functions(step: GuidanceStep, model_options: dict[str, Any]) -> Tensor:
    """The guided clean latents after all functions of the host, called in its order."""
    positive, negative, guided = step.positive, step.negative, step.guided
    if model_options.get(PRE_CFG) or CFG in model_options:
        effective = step.effective_negative
        positive, changed = _before(step, effective, model_options)
        guided = _combined(step, positive, changed, model_options)
        negative = negative + (changed - effective)
    return _after(step, positive, negative, guided, model_options)


def _before(step: GuidanceStep, negative: Tensor, model_options: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The pair as pre-CFG functions leave it."""
    pair = [step.positive, negative]
    for function in model_options.get(PRE_CFG, []):
        pair = function(
            {
                "conds": list(step.conds),
                "conds_out": pair,
                "cond_scale": step.scale,
                "timestep": step.sigma,
                "input": step.x,
                "sigma": step.sigma,
                "model": step.model,
                "model_options": model_options,
            }
        )
    return pair[0], pair[1]


def _combined(step: GuidanceStep, positive: Tensor, negative: Tensor, model_options: dict[str, Any]) -> Tensor:
    """Guidance between a pair, by the host: with the function that takes its place, if there is one."""
    cond, uncond = step.conds
    options = {**model_options, POST_CFG: []}
    combined: Tensor = cfg_function(
        step.model, positive, negative, step.scale, step.x, step.sigma, options, cond=cond, uncond=uncond
    )
    return combined


def _after(
    step: GuidanceStep, positive: Tensor, negative: Tensor, guided: Tensor, model_options: dict[str, Any]
) -> Tensor:
    """The result after post-CFG functions."""
    cond, uncond = step.conds
    for function in model_options.get(POST_CFG, []):
        guided = function(
            {
                "denoised": guided,
                "cond": cond,
                "uncond": uncond,
                "cond_scale": step.scale,
                "model": step.model,
                "uncond_denoised": negative,
                "cond_denoised": positive,
                "sigma": step.sigma,
                "model_options": model_options,
                "input": step.x,
            }
        )
    return guided
