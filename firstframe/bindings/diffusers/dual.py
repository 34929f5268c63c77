"""Dual guidance on a UNet with its parts attached: up to three predictions, of which one sees no picture."""

from __future__ import annotations

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from ...sampling.guidance import Branch, Scales
from ...shapes import fold_frames, unfold_frames
from .inject import Injection


def dual_output(
    injection: Injection,
    scheduler: DDIMScheduler,
    latents: Tensor,
    blind: Tensor,
    timestep: int,
    text: Tensor,
    no_text: Tensor,
    scales: Scales,
) -> Tensor:
    """The UNet's output for ``latents`` (1, C, F, H, W) under :class:`~firstframe.sampling.guidance.DualGuidance`.

    Args:
        latents: what the branches see that see the picture; its frame 0 may be clean.
        blind: for the branch that sees neither picture nor text: the same with noise in frame 0 too, or ``latents``
            themselves where no frame is held.
        text, no_text: (1, N, D).
    """
    outputs = _outputs(injection, latents, blind, timestep, text, no_text, scales.branches)
    if scales.is_plain:
        return scales.combine(outputs)
    clean = _CleanLatents(scheduler, latents, timestep)
    predictions = {branch: clean.of(output) for branch, output in outputs.items()}
    held = int(blind is not latents)  # a held frame has no part in norms and deviations
    later = scales.combine({branch: frames[:, :, held:] for branch, frames in predictions.items()})
    return clean.output(torch.cat([predictions["full"][:, :, :held], later], dim=2))


def _outputs(
    injection: Injection,
    latents: Tensor,
    blind: Tensor,
    timestep: int,
    text: Tensor,
    no_text: Tensor,
    branches: tuple[Branch, ...],
) -> dict[Branch, Tensor]:
    prompts: dict[Branch, Tensor] = {"image": no_text, "full": text}
    seeing = [branch for branch in branches if branch in prompts]
    outputs: dict[Branch, Tensor] = {}
    if seeing:
        together = _evaluate(injection, latents, timestep, torch.cat([prompts[branch] for branch in seeing]))
        outputs.update(zip(seeing, together.chunk(len(seeing)), strict=True))
    if "uncond" in branches:
        injection.sees_picture = False
        try:
            outputs["uncond"] = _evaluate(injection, blind, timestep, no_text)
        finally:
            injection.sees_picture = True
    return outputs


def _evaluate(injection: Injection, latents: Tensor, timestep: int, prompts: Tensor) -> Tensor:
    pictures = fold_frames(latents).repeat(len(prompts), 1, 1, 1)
    return unfold_frames(injection.unet(pictures, timestep, prompts, return_dict=False)[0], latents.shape[2])


class _CleanLatents:
    """Outputs of the UNet at one step to the clean latents that they stand for, and back."""

    def __init__(self, scheduler: DDIMScheduler, latents: Tensor, timestep: int) -> None:
        alpha_squared = scheduler.alphas_cumprod[timestep].item()
        self.alpha, self.sigma = alpha_squared**0.5, (1.0 - alpha_squared) ** 0.5
        self.latents, self.predicts_v = latents, scheduler.config.prediction_type == "v_prediction"

    def of(self, output: Tensor) -> Tensor:
        if self.predicts_v:
            return self.alpha * self.latents - self.sigma * output
        return (self.latents - self.sigma * output) / self.alpha

    def output(self, clean: Tensor) -> Tensor:
        if self.predicts_v:
            return (self.alpha * self.latents - clean) / self.sigma
        return (self.latents - self.alpha * clean) / self.sigma
