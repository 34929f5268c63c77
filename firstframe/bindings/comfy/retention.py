"""A frame retention branch on CONDITIONINGs: one more ControlNet for the host."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from comfy.controlnet import ControlBase
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...clips.reference import Reference
from ...modules.retention import RetentionBranch
from ...sampling.strength import StrengthSchedule
from ...shapes import unfold_frames
from .evaluation import frames_seen, progress
from .image_gate import rows_of, seeing_clips


class RetentionControl(ControlBase):
    """The branch's residuals, for the clips of a call that see the picture. The host scales, times and chains them.

    Attributes:
        sub_idxs: AnimateDiff-Evolved sets the frames of its context window here, and refuses controls without it.
    """

    sub_idxs: list[int] | None = None

    def __init__(self, branch: ModelPatcher, picture: Tensor, strengths: StrengthSchedule | None = None) -> None:
        super().__init__()
        self.branch, self.picture, self.strengths = branch, picture, strengths
        self.model_sampling: Any = None
        self.features: Tensor | None = None

    def get_control(
        self, x_noisy: Tensor, t: Tensor, cond: dict[str, Any], batched_number: int, transformer_options: dict[str, Any]
    ) -> dict[str, list[Tensor]] | None:
        """The host's dictionary of residuals, with those of the controls before this one."""
        previous = None
        if self.previous_controlnet is not None:
            previous = self.previous_controlnet.get_control(x_noisy, t, cond, batched_number, transformer_options)
        seeing = seeing_clips(cond, batched_number)
        if not self._is_time(t) or self.strength == 0.0 or (seeing is not None and not seeing.any()):
            return previous
        residuals = self._residuals(x_noisy, t, cond["c_crossattn"], batched_number, seeing)
        if self.strengths is not None:
            residuals = self._weighted(
                residuals, x_noisy, t, frames_seen(transformer_options, len(x_noisy) // batched_number)
            )
        return self.control_merge({"middle": [], "output": residuals}, previous, x_noisy.dtype)

    def _is_time(self, t: Tensor) -> bool:
        start, end = self.timestep_range
        return bool(end <= t[0] <= start)

    def _residuals(
        self, x_noisy: Tensor, t: Tensor, text: Tensor, num_clips: int, seeing: Tensor | None
    ) -> list[Tensor]:
        branch: RetentionBranch = self.branch.model
        num_frames = len(x_noisy) // num_clips
        rows = rows_of(torch.ones(num_clips) > 0 if seeing is None else seeing, num_frames).to(x_noisy.device)
        noisy = self.model_sampling.calculate_input(t, x_noisy)[rows]
        if self.features is None:
            self.features = branch.encode(self.picture.to(noisy))
        of_clips = unfold_frames(noisy, num_frames)
        features = self.features.expand(len(of_clips), -1, -1, -1)
        timestep = self.model_sampling.timestep(t)[rows][::num_frames]
        found = branch(of_clips, timestep, text[rows].to(noisy), features)
        if seeing is None:
            return [residual.clone() for residual in found]
        return [
            residual.new_zeros(len(x_noisy), *residual.shape[1:]).index_copy(0, rows, residual) for residual in found
        ]

    def _weighted(self, residuals: list[Tensor], x_noisy: Tensor, t: Tensor, frames: Sequence[int]) -> list[Tensor]:
        done, latent = progress(self.model_sampling, t), tuple(x_noisy.shape[2:])
        clips = len(x_noisy) // len(frames)

        def factors(residual: Tensor) -> Tensor:
            return self.strengths.weights(done, frames, latent, tuple(residual.shape[2:])).to(residual)

        return [residual * factors(residual).repeat(clips, 1, 1, 1) for residual in residuals]

    def pre_run(self, model: Any, percent_to_timestep_function: Any) -> None:
        """Called by the host before sampling."""
        super().pre_run(model, percent_to_timestep_function)
        self.model_sampling = model.model_sampling

    def cleanup(self) -> None:
        """Called by the host after sampling."""
        self.model_sampling = self.features = None
        super().cleanup()

    def get_models(self) -> list[ModelPatcher]:
        """For the host's memory manager."""
        return [*super().get_models(), self.branch]

    def copy(self) -> RetentionControl:
        """The same branch and picture, to be set up for other conditionings."""
        other = RetentionControl(self.branch, self.picture, self.strengths)
        self.copy_to(other)
        return other

    def deepclone_multigpu(self, load_device: torch.device, autoregister: bool = False) -> RetentionControl:
        """For another device."""
        other = self.copy()
        module = copy.deepcopy(self.branch.model)
        other.branch = ModelPatcher(module, load_device=load_device, offload_device=self.branch.offload_device)
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
