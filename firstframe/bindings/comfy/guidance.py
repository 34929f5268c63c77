"""Dual guidance as a GUIDER."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP, get_wrappers_with_key
from comfy.samplers import CFGGuider, calc_cond_batch, sampling_function
from torch import Tensor

from ...sampling.guidance import SAME_IMAGE, Branch, DualGuidance, LowPass, Scales
from .finite import stop_at_nan
from .first_frame import FIRST_FRAME_KEY
from .guidance_functions import GuidanceStep, with_functions
from .image_conditioning import (
    HeldImage,
    guide_frames,
    image_of,
    with_image,
    with_soft_image,
    without_image,
    without_latent,
)
from .image_gate import gated
from .image_tokens import with_tokens_of
from .preview import preview_all_frames
from .step import share_steps, step_of

AS_THE_HOST: tuple[Branch, ...] = ("full", "uncond", "image")
"""The host's order: SAG and others take the first of a call for the prompt, the second for the negative."""

EARLY = "early "
CLIP = 5


class DualGuider(CFGGuider):
    """Guides by image and text, as `DualGuidance` says."""

    def __init__(self, model: ModelPatcher, guidance: DualGuidance, low_pass: LowPass = SAME_IMAGE) -> None:
        super().__init__(preview_all_frames(model))
        share_steps(self.model_patcher)
        stop_at_nan(self.model_patcher)
        self.guidance = guidance
        self.low_pass = low_pass
        self.image: HeldImage | None = None

    def set_conds(self, positive: list[Any], negative: list[Any]) -> None:
        """The prompt and the negative prompt; the latter stands for "no text"."""
        image = with_tokens_of(with_image(negative, image_of(positive)), positive)
        seeing = {"image": gated(image, True), "full": gated(positive, True)}
        self.inner_set_conds({"uncond": gated(without_image(negative), False), **seeing})
        if not self.low_pass.is_neutral:
            detail = self.low_pass.detail
            self.inner_set_conds({EARLY + branch: with_soft_image(cond, detail) for branch, cond in seeing.items()})

    def inner_sample(
        self,
        noise: Tensor,
        latent_image: Tensor,
        device: torch.device,
        sampler: Any,
        sigmas: Tensor,
        denoise_mask: Tensor | None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        """Called by the host. A video model may find its image in the latent: it is noted where."""
        if noise.ndim == CLIP:
            self.conds["uncond"] = without_latent(self.conds["uncond"], latent_image)
            if denoise_mask is not None:
                latent = self.inner_model.process_latent_in(latent_image) if latent_image.any() else latent_image
                guides = guide_frames(self.conds["full"], latent)
                self.image = HeldImage(self.inner_model, latent, noise, denoise_mask, guides)
        try:
            samples: Tensor = super().inner_sample(
                noise, latent_image, device, sampler, sigmas, denoise_mask, *args, **kwargs
            )
        finally:
            self.image = None
        return samples

    def predict_noise(
        self,
        x: Tensor,
        timestep: Tensor,
        model_options: dict[str, Any] | None = None,
        seed: int | None = None,
    ) -> Tensor:
        """The guided clean latents. Only the conditionings that count at this step are evaluated."""
        model_options = model_options or {}
        done = 0.0 if self._is_steady else self._percent(timestep, model_options)
        scales, early = self.guidance.at(done), self.low_pass.holds(done)
        conds = {branch: self._cond(branch, early) for branch in scales.branches}
        inputs = self._inputs(scales.branches, x, timestep, early)
        if _is_plain_guidance(scales) and len(set(map(id, inputs.values()))) == 1:
            other = conds[scales.branches[0]] if len(conds) == 2 else self._cond("image", early)
            result: Tensor = sampling_function(
                self.inner_model, inputs["full"], timestep, other, conds["full"], scales.text, model_options, seed
            )
            return result
        found = self._predictions(conds, inputs, timestep, model_options)
        if self.image is not None and not scales.is_plain:
            found = {branch: self.image.in_place(denoised) for branch, denoised in found.items()}
        guided = _combined(scales, found, self._held(model_options))
        step = GuidanceStep.of(scales, conds, found, guided, model=self.inner_model, x=x, sigma=timestep)
        return with_functions(step, model_options)

    @property
    def _is_steady(self) -> bool:
        """Whether all steps are guided alike."""
        return self.guidance.is_steady and self.low_pass.is_neutral

    def _percent(self, sigma: Tensor, model_options: dict[str, Any]) -> float:
        """How far sampling is, from 0 (all noise) to 1 (none). Waits for the device, once per step."""
        step = step_of(model_options.get("transformer_options", {}))
        return step.level(self.inner_model.model_sampling, sigma).percent

    def _cond(self, branch: Branch, early: bool) -> Any:
        return self.conds[EARLY + branch if early and branch != "uncond" else branch]

    def _inputs(self, branches: tuple[Branch, ...], x: Tensor, sigma: Tensor, early: bool) -> dict[Branch, Tensor]:
        """What each branch sees: one and the same tensor, unless the latent holds an image."""
        if self.image is None:
            return dict.fromkeys(branches, x)
        shown = self.image.soft(x, sigma, self.low_pass.detail) if early else x
        return {branch: self.image.hidden(x, sigma) if branch == "uncond" else shown for branch in branches}

    def _predictions(
        self, conds: dict[Branch, Any], inputs: dict[Branch, Tensor], sigma: Tensor, model_options: dict[str, Any]
    ) -> dict[Branch, Tensor]:
        """The clean latents of each branch, with one call for all that see the same."""
        found: dict[Branch, Tensor] = {}
        for _, group in groupby(conds, lambda branch: id(inputs[branch])):
            branches = sorted(group, key=AS_THE_HOST.index)
            batch = [conds[branch] for branch in branches]
            denoised = calc_cond_batch(self.inner_model, batch, inputs[branches[0]], sigma, model_options)
            found.update(zip(branches, denoised, strict=True))
        if self.image is not None and "uncond" in found:
            found["uncond"] = self.image.whole(found["uncond"])
        return found

    def _held(self, model_options: dict[str, Any]) -> bool:
        key = WrappersMP.PREDICT_NOISE
        return bool(get_wrappers_with_key(key, FIRST_FRAME_KEY, model_options, is_model_options=True))


def _is_plain_guidance(scales: Scales) -> bool:
    """Whether *full* is evaluated alone, or against one other branch: the host does that itself."""
    branches = scales.branches
    return branches == ("full",) or (scales.is_plain and len(branches) == 2 and "full" in branches)


def _combined(scales: Scales, found: dict[Branch, Tensor], held: bool) -> Tensor:
    """Frames (F, C, H, W) are one clip; a held frame 0 has no part in its norms and deviations.

    Clips of a video model, (B, C, F, H, W), are clips.
    """
    if scales.is_plain or found["full"].ndim == CLIP:
        return scales.combine(found)
    first = int(held)
    result = found["full"].clone()
    result[first:] = scales.combine({branch: frames[None, first:] for branch, frames in found.items()})[0]
    return result
