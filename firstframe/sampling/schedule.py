"""The noise schedule of one sampling: its timesteps, alpha and sigma, and what the network's outputs mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from ..errors import ModelMismatchError
from ..modules.motion import BetasName

PredictionType = Literal["epsilon", "v_prediction"]


@dataclass(frozen=True)
class Betas:
    """The betas of a noise schedule, in diffusers' words: from ``start`` to ``end``, "linear" or "scaled_linear"."""

    start: float
    end: float
    spacing: Literal["linear", "scaled_linear"]


_BETAS: dict[BetasName | None, Betas] = {
    None: Betas(0.00085, 0.012, "linear"),
    "animatediff_sdxl": Betas(0.00085, 0.020, "scaled_linear"),
    "sdxl": Betas(0.00085, 0.012, "scaled_linear"),
}


def betas(name: BetasName | None) -> Betas:
    """The betas that a motion module was trained with, by their name in its configuration.

    None are AnimateDiff's for Stable Diffusion 1.5 (all versions), "animatediff_sdxl" AnimateDiff's for SDXL, "sdxl"
    SDXL's own, with which Hotshot-XL was trained.
    """
    return _BETAS[name]


@dataclass(frozen=True)
class Schedule:
    """The steps of DDIM without added noise (arXiv 2010.02502, eta 0), as plain numbers.

    At step i the latents are ``x_i = alpha_i x_0 + sigma_i eps`` with ``alpha_i^2 + sigma_i^2 = 1``.

    Attributes:
        timesteps: from t0 down to 1; what the network is told.
        alphas, sigmas: for each step, and behind them 1 and 0 for the clean latents.
        percents: how far sampling is at each step, from 0 (all noise) to 1 (none).
        prediction_type: what the network predicts.
    """

    timesteps: tuple[int, ...]
    alphas: tuple[float, ...]
    sigmas: tuple[float, ...]
    percents: tuple[float, ...]
    prediction_type: PredictionType

    @classmethod
    def ddim(
        cls, alphas_cumprod: Tensor, steps: int, start_time: float = 1.0, prediction_type: str = "epsilon"
    ) -> Schedule:
        """Choose the steps out of the schedule that a model was trained with.

        Args:
            alphas_cumprod: alpha^2 at each training timestep, (T,).
            steps: how many are run, at least 1.
            start_time: t0 in (0, 1], see `ddim_timesteps`.
            prediction_type: "epsilon" or "v_prediction".

        Raises:
            ModelMismatchError: the model predicts something else.
        """
        if prediction_type not in get_args(PredictionType):
            raise ModelMismatchError(
                f"the model predicts {prediction_type!r}; only {' and '.join(get_args(PredictionType))} can be sampled"
            )
        timesteps = ddim_timesteps(steps, start_time, len(alphas_cumprod))
        squares = [*alphas_cumprod[timesteps].tolist(), 1.0]
        return cls(
            timesteps=tuple(timesteps),
            alphas=tuple(square**0.5 for square in squares),
            sigmas=tuple((1.0 - square) ** 0.5 for square in squares),
            percents=tuple(1.0 - timestep / (len(alphas_cumprod) - 1) for timestep in timesteps),
            prediction_type="v_prediction" if prediction_type == "v_prediction" else "epsilon",
        )

    def __len__(self) -> int:
        return len(self.timesteps)

    def noised(self, clean: Tensor, noise: Tensor, step: int) -> Tensor:
        """``alpha x_0 + sigma eps``."""
        return self.alphas[step] * clean + self.sigmas[step] * noise

    def noise_in(self, latents: Tensor, clean: Tensor, step: int) -> Tensor:
        """The eps with which ``clean`` becomes ``latents``: the inverse of `noised`."""
        return (latents - self.alphas[step] * clean) / self.sigmas[step]

    def denoised(self, latents: Tensor, output: Tensor, step: int) -> Tensor:
        """The clean latents that a network's ``output``, eps or v, stands for (v: arXiv 2202.00512, Appendix D)."""
        alpha, sigma = self.alphas[step], self.sigmas[step]
        if self.prediction_type == "v_prediction":
            return alpha * latents - sigma * output
        return (latents - sigma * output) / alpha

    def advance(self, latents: Tensor, denoised: Tensor, step: int) -> Tensor:
        """From the latents of a step to those of the next (arXiv 2010.02502, Equation 12, eta 0)."""
        return self.noised(denoised, self.noise_in(latents, denoised, step), step + 1)


def ddim_timesteps(steps: int, start_time: float = 1.0, num_train_timesteps: int = 1000) -> list[int]:
    """Timesteps from t0 down to 1, evenly spaced: those of ComfyUI's "ddim_uniform" scheduler.

    ``start_time`` below 1 cuts the last ``steps`` out of a schedule of ``steps / start_time``, as
    ComfyUI's ``denoise`` does. At 1 there can be one step more than asked for, where the spacing leaves
    room: 7 steps are 995, 853, ..., 1.
    """
    total = steps if start_time > 0.9999 else int(steps / start_time)
    timesteps = list(range(1, num_train_timesteps, max(num_train_timesteps // total, 1)))[::-1]
    return timesteps if start_time > 0.9999 else timesteps[-steps:]
