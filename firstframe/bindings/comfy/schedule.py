"""The noise schedule that motion modules and adapters were trained with."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy.model_sampling import ModelSamplingDiscrete
from torch import Tensor

from ...errors import ModelMismatchError
from ...modules.motion import BetasName
from ...sampling.schedule import betas

HOST_SPACING = {"linear": "sqrt_linear", "scaled_linear": "linear"}
"""What diffusers calls "linear", the host calls "sqrt_linear"."""


def host_betas(name: BetasName | None) -> dict[str, Any]:
    """The betas that a motion module was trained with, as the host's settings."""
    trained = betas(name)
    return {
        "beta_schedule": HOST_SPACING[trained.spacing],
        "linear_start": trained.start,
        "linear_end": trained.end,
    }


ANIMATEDIFF = host_betas(None)
"""AnimateDiff's betas for Stable Diffusion 1.5."""


def motion_schedule(model: ModelPatcher, name: BetasName | None) -> ModelSamplingDiscrete:
    """The model's own sampling (eps, v, distilled, zero SNR) with the betas called ``name`` and an exact start.

    The host starts from ``latent + sqrt(1 + sigma^2) noise`` where the whole schedule is run. Here every start is
    ``latent + sigma noise``, Equation 7 of arXiv 2312.16693 in the host's scale, so that a prior is met at any t0.
    """
    current = model.get_model_object("model_sampling")
    if not isinstance(current, ModelSamplingDiscrete):
        raise ModelMismatchError(
            f"the model's noise schedule ({type(current).__mro__[1].__name__}) is none that motion modules know; "
            'use a Stable Diffusion 1.5 or SDXL model, or choose the schedule "keep"'
        )

    class MotionSampling(type(current)):  # type: ignore[misc]
        def noise_scaling(self, sigma: Tensor, noise: Tensor, latent_image: Tensor, *_: Any) -> Tensor:
            return super().noise_scaling(sigma, noise, latent_image)

    settings = {**model.model.model_config.sampling_settings, **host_betas(name)}
    return MotionSampling(SimpleNamespace(sampling_settings=settings), zsnr=current.zsnr)
