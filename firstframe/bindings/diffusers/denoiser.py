"""The guided prediction of a UNet with its parts attached, and the frames that are held clean meanwhile."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from ...errors import NotFiniteError
from ...sampling.finite import Watch, name_of, not_finite
from ...sampling.guidance import Branch, Scales
from ...sampling.schedule import Schedule
from ...shapes import fold_frames, unfold_frames
from .injection import Injection
from .settings import Prompts


@dataclass(frozen=True)
class HeldFrames:
    """Frames in which an image stands: clean for predictions that condition on it, else as noisy as the others.

    Attributes:
        images: clean latents (1, C, F, H, W); only the held frames count.
        noise: eps of the same shape, with which the held frames are noised.
        mask: (F, 1, 1), true where a frame is held.
        free: numbers of the other frames, (F',).
    """

    images: Tensor
    noise: Tensor
    mask: Tensor
    free: Tensor

    @classmethod
    def of(cls, frames: Collection[int], images: Tensor, noise: Tensor) -> HeldFrames:
        """Hold the numbered ``frames``; none is possible."""
        held = [frame in frames for frame in range(images.shape[2])]
        free = [frame for frame, is_held in enumerate(held) if not is_held]
        mask = torch.tensor(held, device=images.device).view(-1, 1, 1)
        return cls(images, noise, mask, torch.tensor(free, device=images.device))

    def shown(self, latents: Tensor) -> Tensor:
        """``latents`` (1, C, F, H, W) with the clean images in their frames."""
        return torch.where(self.mask, self.images, latents)

    def hidden(self, latents: Tensor, schedule: Schedule, step: int) -> Tensor:
        """``latents`` with the images as noisy as the other frames are at ``step``."""
        return torch.where(self.mask, schedule.noised(self.images, self.noise, step), latents)


@dataclass
class GuidedDenoiser:
    """D(x; step): the clean latents that a UNet with its parts attached predicts under guidance.

    The timesteps are copied to the device once; a call neither reads from the device nor copies to it.
    """

    injection: Injection
    schedule: Schedule
    prompts: Prompts
    held: HeldFrames
    watch: Watch = field(default_factory=Watch)

    def __post_init__(self) -> None:
        self.timesteps = torch.tensor(self.schedule.timesteps, device=self.held.images.device)

    def __call__(self, latents: Tensor, step: int, scales: Scales) -> Tensor:
        """Predict the clean latents.

        Args:
            latents: (1, C, F, H, W) as `HeldFrames.shown` returns them.
            step: from 0.
            scales: of the guidance at this step.

        Raises:
            NotFiniteError: a prediction is not finite, of this step or of one before.
        """
        denoised = self._guided(latents, step, scales)
        self.watch.note(denoised, lambda: self._explain(latents, step, scales))
        return denoised

    def _explain(self, latents: Tensor, step: int, scales: Scales) -> NotFiniteError:
        parts = self.injection
        retention = parts.retention.branch if parts.retention is not None else None
        attached = (parts.motion, parts.adapter, parts.image_tokens, retention)
        networks = [(name_of(network), network) for network in attached if network is not None]
        where = f"step {step + 1} of {len(self.schedule)}"
        again = partial(self._guided, latents, step, scales)
        return not_finite(where, latents, [*networks, ("the UNet", parts.unet)], again)

    def _guided(self, latents: Tensor, step: int, scales: Scales) -> Tensor:
        predictions = self._predictions(latents, step, scales.branches)
        if scales.is_plain:
            return scales.combine(predictions)
        # a held frame has no part in norms and deviations
        free = {branch: frames.index_select(2, self.held.free) for branch, frames in predictions.items()}
        return predictions["full"].index_copy(2, self.held.free, scales.combine(free))

    def _predictions(self, latents: Tensor, step: int, branches: tuple[Branch, ...]) -> dict[Branch, Tensor]:
        """One call of the UNet for the branches that condition on the image, one for the branch that does not."""
        seeing = [branch for branch in branches if branch != "uncond"]
        found: dict[Branch, Tensor] = {}
        if seeing:
            together = self._predict(latents, step, seeing)
            found.update(zip(seeing, together.chunk(len(seeing)), strict=True))
        if "uncond" in branches:
            with self.injection.blind():
                hidden = self.held.hidden(latents, self.schedule, step)
                found["uncond"] = self._predict(hidden, step, ["uncond"])
        return found

    def _predict(self, latents: Tensor, step: int, branches: Sequence[Branch]) -> Tensor:
        """Clean latents (B, C, F, H, W) for ``latents`` (1, C, F, H, W) with the text of each of B branches."""
        texts, added = self.prompts.conditions(branches, latents)
        rows = fold_frames(latents).repeat(len(texts), 1, 1, 1)
        output = self.injection.unet(rows, self.timesteps[step], texts, return_dict=False, **added)[0]
        return self.schedule.denoised(latents, unfold_frames(output, latents.shape[2]), step)
