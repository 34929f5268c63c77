"""Dual guidance as a GUIDER."""

from __future__ import annotations

from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP, get_wrappers_with_key
from comfy.samplers import CFGGuider, calc_cond_batch, sampling_function
from torch import Tensor

from ...guidance import Branch, DualGuidance, Scales
from .evaluation import progress
from .first_frame import FIRST_FRAME_KEY
from .image_tokens import with_tokens_of
from .picture_gate import gated


class DualGuider(CFGGuider):
    """Guides by picture and text, as :class:`~firstframe.guidance.DualGuidance` says."""

    def __init__(self, model: ModelPatcher, guidance: DualGuidance) -> None:
        super().__init__(model)
        self.guidance = guidance

    def set_conds(self, positive: list[Any], negative: list[Any]) -> None:
        """The prompt and the negative prompt; the latter stands for "no text"."""
        image = with_tokens_of(negative, positive)
        self.inner_set_conds(
            {"none": gated(negative, False), "image": gated(image, True), "full": gated(positive, True)}
        )

    def predict_noise(
        self,
        x: Tensor,
        timestep: Tensor,
        model_options: dict[str, Any] | None = None,
        seed: int | None = None,
    ) -> Tensor:
        """The guided clean latents. Only the conditionings that count at this step are evaluated."""
        model_options = model_options or {}
        scales = self.guidance.at(progress(self.inner_model.model_sampling, timestep))
        branches = scales.branches
        if scales.is_plain and "full" in branches and len(branches) <= 2:
            other = self.conds[branches[0]] if len(branches) == 2 else None
            result: Tensor = sampling_function(
                self.inner_model, x, timestep, other, self.conds["full"], scales.text, model_options, seed
            )
            return result
        conds = [self.conds[branch] for branch in branches]
        found = dict(zip(branches, calc_cond_batch(self.inner_model, conds, x, timestep, model_options), strict=True))
        return self._after_guidance(
            _combined(scales, found, self._held(model_options)), found, x, timestep, model_options
        )

    def _held(self, model_options: dict[str, Any]) -> bool:
        key = WrappersMP.PREDICT_NOISE
        return bool(get_wrappers_with_key(key, FIRST_FRAME_KEY, model_options, is_model_options=True))

    def _after_guidance(
        self, guided: Tensor, found: dict[Branch, Tensor], x: Tensor, sigma: Tensor, model_options: dict[str, Any]
    ) -> Tensor:
        """What other nodes do after guidance (PAG, SAG, ...), told of the strongest and the weakest prediction."""
        strongest, weakest = next(reversed(found)), next(iter(found))
        for function in model_options.get("sampler_post_cfg_function", []):
            guided = function(
                {
                    "denoised": guided,
                    "cond": self.conds[strongest],
                    "uncond": self.conds[weakest],
                    "cond_scale": self.guidance.text_scale,
                    "model": self.inner_model,
                    "uncond_denoised": found[weakest],
                    "cond_denoised": found[strongest],
                    "sigma": sigma,
                    "model_options": model_options,
                    "input": x,
                }
            )
        return guided


def _combined(scales: Scales, found: dict[Branch, Tensor], held: bool) -> Tensor:
    """Frames (F, C, H, W) are one clip; a held frame 0 has no part in its norms and deviations."""
    if scales.is_plain:
        return scales.combine(found)
    first = int(held)
    result = found["full"].clone()
    result[first:] = scales.combine({branch: frames[None, first:] for branch, frames in found.items()})[0]
    return result
