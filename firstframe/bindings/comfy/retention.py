"""A frame retention branch on CONDITIONINGs: one more ControlNet for the host."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from comfy.controlnet import ControlBase
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...clips.reference import Reference
from ...errors import check_finite
from ...modules.retention import RetentionBranch, RetentionConfig
from ...sampling.strength import StrengthSchedule
from ...shapes import unfold_frames
from .evaluation import conditionings_in, frames_seen
from .image_gate import only_seeing, seeing_clips, zero_elsewhere
from .once import Once
from .sites import check_fits, check_text, motion_width
from .step import NoiseLevel, step_of
from .weights import compute_dtype, managed

PROMPTS_IN_A_CALL = 2
MANY_FRAMES = 32


class RetentionControl(ControlBase):
    """The branch's residuals, for the clips of a call that see the image. The host scales, times and chains them.

    Attributes:
        sub_idxs: AnimateDiff-Evolved sets the frames of its context window here, and refuses controls without it.
    """

    sub_idxs: list[int] | None = None

    def __init__(self, branch: ModelPatcher, image: Tensor, strengths: StrengthSchedule | None = None) -> None:
        super().__init__()
        self.branch, self.image, self.strengths = branch, image, strengths
        self.model_sampling: Any = None
        self.once = Once()

    def get_control(
        self, x_noisy: Tensor, t: Tensor, cond: dict[str, Any], batched_number: int, transformer_options: dict[str, Any]
    ) -> dict[str, list[Tensor]] | None:
        """The host's dictionary of residuals, with those of the controls before this one."""
        previous = None
        if self.previous_controlnet is not None:
            previous = self.previous_controlnet.get_control(x_noisy, t, cond, batched_number, transformer_options)
        seeing = seeing_clips(cond)
        level = partial(step_of(transformer_options).level, self.model_sampling, t)
        if self.strength == 0.0 or (seeing is not None and not any(seeing)) or not self._is_time(level):
            return previous
        num_frames = len(x_noisy) // batched_number
        frames = frames_seen(transformer_options, num_frames)
        texts = self._texts(cond, transformer_options, frames, x_noisy.device)
        of_call = (self.model_sampling.calculate_input(t, x_noisy), self.model_sampling.timestep(t), *texts)
        latents, timestep, *texts = (only_seeing(rows, seeing) for rows in of_call)
        found = self._residuals(latents, timestep, texts, num_frames)
        if self.strengths is not None:
            found = self._weighted(found, self.strengths, level, frames, (x_noisy.shape[2], x_noisy.shape[3]))
        residuals = [zero_elsewhere(residual, seeing) for residual in found]
        return self.control_merge({"middle": [], "output": residuals}, previous, None)

    def _is_time(self, level: Callable[[], NoiseLevel]) -> bool:
        if self.timestep_percent_range == (0.0, 1.0):
            return True
        start, end = self.timestep_range
        return bool(end <= level().sigma <= start)

    def _texts(
        self, cond: dict[str, Any], options: dict[str, Any], frames: Sequence[int], device: torch.device
    ) -> list[Tensor]:
        """The text of a call, (clips*F, N, D), and for SDXL the pooled text with the image sizes, (clips*F, P).

        They are moved to where the branch computes: the host leaves them where they were encoded.
        """
        dtype, which = compute_dtype(self.branch), conditionings_in(options)

        def moved() -> list[Tensor]:
            told = [cond.get("crossattn_controlnet", cond["c_crossattn"]), cond.get("y")]
            return [text.to(device, dtype) for text in told if text is not None]

        return moved() if which is None else self.once((which, *frames, device), moved)

    def _residuals(
        self, latents: Tensor, timestep: Tensor, texts: Sequence[Tensor], num_frames: int
    ) -> Sequence[Tensor]:
        """Of clips that see the image, in the branch's own type. ``texts`` are those of `_texts`."""
        branch: RetentionBranch = self.branch.model
        clips = unfold_frames(latents.to(compute_dtype(self.branch)), num_frames)
        features = self.once(clips.device, lambda: branch.encode(self.image.to(clips)))
        text, *pooled = texts
        of_clips = (timestep[::num_frames], text, features.expand(len(clips), -1, -1, -1))
        return branch(clips, *of_clips, pooled=pooled[0][::num_frames] if pooled else None)

    def _weighted(
        self,
        residuals: Sequence[Tensor],
        strengths: StrengthSchedule,
        level: Callable[[], NoiseLevel],
        frames: Sequence[int],
        latent: tuple[int, int],
    ) -> Sequence[Tensor]:
        """Residuals (clips*F, C, h, w) times their strengths at this step."""
        now = 1.0 if strengths.is_steady else strengths.over_steps.at(level().percent)

        def weighted(residual: Tensor) -> Tensor:
            size = (residual.shape[2], residual.shape[3])
            key = (size, tuple(frames), residual.device)
            factors = self.once(key, lambda: strengths.over_space(frames, latent, size).to(residual))
            clips = residual.reshape(-1, len(frames), *residual.shape[1:])
            return (clips * (now * factors)).flatten(0, 1)

        return [weighted(residual) for residual in residuals]

    def pre_run(self, model: Any, percent_to_timestep_function: Any) -> None:
        """Called by the host before sampling.

        Raises:
            ModelMismatchError: the branch was not made for this model.
        """
        super().pre_run(model, percent_to_timestep_function)
        config: RetentionConfig = self.branch.model.config
        check_fits(model, config.down_sites, motion_width, "the retention branch")
        check_text(model, config.unet, "the retention branch")
        self.model_sampling = model.model_sampling

    def cleanup(self) -> None:
        """Called by the host after sampling."""
        self.model_sampling = None
        self.once.clear()
        super().cleanup()

    def get_models(self) -> list[ModelPatcher]:
        """For the host's memory manager."""
        return [*super().get_models(), self.branch]

    def inference_memory_requirements(self, dtype: torch.dtype) -> float:
        """Bytes of the residuals, which wait for the UNet's up blocks: for two prompts, in the longest clip."""
        config, (height, width) = self.branch.model.config, self.image.shape[2:]
        elements = config.residual_elements(height // 8, width // 8)
        rows = PROMPTS_IN_A_CALL * (config.motion.max_frames or len(self.sub_idxs or ()) or 16)
        return float(
            rows * elements * compute_dtype(self.branch).itemsize + super().inference_memory_requirements(dtype)
        )

    def copy(self) -> RetentionControl:
        """The same branch and image, to be set up for other conditionings."""
        other = RetentionControl(self.branch, self.image, self.strengths)
        self.copy_to(other)
        return other

    def deepclone_multigpu(self, load_device: torch.device, autoregister: bool = False) -> RetentionControl:
        """For another device."""
        other = self.copy()
        other.branch = managed(copy.deepcopy(self.branch.model), load_device)
        if autoregister:
            self.multigpu_clones[load_device] = other
        return other


def apply_retention(
    conditionings: list[list[Any]],
    branch: ModelPatcher,
    reference: Reference,
    strength: float,
    start_percent: float,
    end_percent: float,
    strengths: StrengthSchedule | None = None,
) -> list[list[Any]]:
    """Copies of CONDITIONINGs with the branch behind the controls that they have.

    ``strengths`` are factors on ``strength`` over time and space.
    One and the same object stands in all of them where they had the same control before, or the host would not put
    them into one call.
    """
    for name, number in {"strength": strength, "start_percent": start_percent, "end_percent": end_percent}.items():
        check_finite(f"the {name} of the retention branch", number)
    of_previous: dict[Any, RetentionControl] = {}

    def control_after(previous: Any) -> RetentionControl:
        if previous not in of_previous:
            control = RetentionControl(branch, reference.pixels, strengths)
            control.set_cond_hint(reference.pixels, strength, (start_percent, end_percent))
            control.set_previous_controlnet(previous)
            of_previous[previous] = control
        return of_previous[previous]

    return [
        [
            [embedding, {**extra, "control": control_after(extra.get("control")), "control_apply_to_uncond": False}]
            for embedding, extra in conditioning
        ]
        for conditioning in conditionings
    ]
