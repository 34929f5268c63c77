"""The noise schedule that motion modules and adapters were trained with."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy.model_sampling import ModelSamplingDiscrete
from torch import Tensor

from ...errors import ModelMismatchError

ANIMATEDIFF = {"beta_schedule": "sqrt_linear", "linear_start": 0.00085, "linear_end": 0.012}
"""AnimateDiff's betas: what diffusers calls "linear", the host calls "sqrt_linear"."""


def animatediff_schedule(model: ModelPatcher) -> ModelSamplingDiscrete:
    """The model's own sampling (eps, v, distilled, zero SNR) with AnimateDiff's betas and an exact start.

    The host starts from ``latent + sqrt(1 + sigma^2) noise`` where the whole schedule is run. Here every start is
    ``latent + sigma noise``, Equation 7 of arXiv 2312.16693 in the host's scale, so that a prior is met at any t0.
    """
    current = model.get_model_object("model_sampling")
    if not isinstance(current, ModelSamplingDiscrete):
        raise ModelMismatchError(
            f"the model's noise schedule ({type(current).__mro__[1].__name__}) is none that motion modules know; "
            'use an SD1.5 model, or choose the schedule "keep"'
        )

    class MotionSampling(type(current)):  # type: ignore[misc]
        def noise_scaling(self, sigma: Tensor, noise: Tensor, latent_image: Tensor, *_: Any) -> Tensor:
            return super().noise_scaling(sigma, noise, latent_image)

    settings = {**model.model.model_config.sampling_settings, **ANIMATEDIFF}
    return MotionSampling(SimpleNamespace(sampling_settings=settings), zsnr=current.zsnr)
