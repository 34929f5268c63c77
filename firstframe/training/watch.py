"""Looking at a training from outside: the loss of held-out clips, and clips that the model makes of their images."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..bindings.diffusers import Pooled, Prompts, SamplingSettings, sample
from ..clips.metrics.image import ssim
from ..clips.reference import Reference
from ..clips.video import contact_sheet, write_clip
from ..modules.text import Text
from .base import VideoBase
from .clips.batches import batch_of
from .clips.cache import Cache
from .clips.plan import Sample
from .config import SamplesTable
from .data import DRAWS, seed_of
from .objective import Objective
from .target import Target

DRAWS_EACH = 2


@dataclass(frozen=True)
class HeldOutLoss:
    """The loss of clips that are never trained on, always with the same noise.

    Attributes:
        empty: the empty caption (B = 1).
    """

    target: Target
    cache: Cache
    samples: Sequence[Sample]
    empty: Text
    objective: Objective
    seed: int

    @torch.no_grad()
    def __call__(self, step: int) -> dict[str, float]:
        """The mean over clips and ``DRAWS_EACH`` timesteps."""
        device, losses = self.objective.alphas_cumprod.device, []
        with self.target.denoiser.attached(checkpointing=False):
            for index, one in enumerate(self.samples):
                batch = batch_of(self.cache, [one]).to(device)
                for draw in range(DRAWS_EACH):
                    generator = torch.Generator().manual_seed(seed_of(DRAWS, self.seed, index * DRAWS_EACH + draw))
                    loss = self.target.loss(self.target.denoiser, batch, self.empty, self.objective, generator)
                    losses.append(loss)
        return {"held_out_loss": round(torch.stack(losses).mean().item(), 5)}


@dataclass(frozen=True)
class Samples:
    """Clips from the images and captions of some samples, each beside the real one, and how alike they are.

    Attributes:
        folder: gets ``step_000250.png``, a row of frames for each real clip and one for what was made, and the clips.
        samples: one clip each.
    """

    target: Target
    base: VideoBase
    cache: Cache
    samples: Sequence[Sample]
    settings: SamplesTable
    folder: Path

    @torch.no_grad()
    def __call__(self, step: int) -> dict[str, float]:
        """The mean likeness (ssim) of the frames after the first to the real ones."""
        self.folder.mkdir(parents=True, exist_ok=True)
        rows, likeness = [], []
        for one in self.samples:
            real, made = self._real_and_made(one)
            likeness.append(ssim(made[1:], real[1:]))
            rows += [real, made]
        for index, made in enumerate(rows[1::2]):
            write_clip(self.folder / f"step_{step:06}_{index}.mp4", made)
        longest = max(map(len, rows))
        sheet = contact_sheet(torch.cat([_extended(_shrunk(row), longest) for row in rows]), columns=longest)
        sheet.save(self.folder / f"step_{step:06}.png")
        return {"sample_ssim": round(statistics.fmean(likeness), 4)}

    def _real_and_made(self, one: Sample) -> tuple[Tensor, Tensor]:
        device, base, settings = self.base.unet.device, self.base, self.settings
        batch = batch_of(self.cache, [one]).to(device)
        denoiser = self.target.denoiser
        text = denoiser.told(batch.text, batch.features)
        none = denoiser.content.no_image if denoiser.content else None
        empty = denoiser.told(self.cache.text("").to(batch.text.states), none)
        pooled = None if text.pooled is None or empty.pooled is None else Pooled(text.pooled, empty.pooled)
        num_frames = batch.latents.shape[2]
        reference = Reference(batch.images, batch.latents[:, :, 0] / base.latent_scale)
        if self.target.kind != "adapter":
            reference = Reference(batch.images)
        latents = sample(
            base.unet,
            self.target.parts,
            Prompts(text.states, empty.states, pooled),
            SamplingSettings(num_frames, settings.sample_steps, settings.guidance_scale, settings.seed),
            reference,
            scheduler=base.scheduler,
            latent_scale=base.latent_scale,
        )
        return self._decoded(batch.latents), self._decoded(latents)

    def _decoded(self, latents: Tensor) -> Tensor:
        """(1, C, F, h, w) to frames (F, H, W, 3) in [0, 1] on the CPU."""
        return self.base.encoders.decode(latents[0].movedim(1, 0)).movedim(1, -1).float().cpu()


WIDEST = 128


def _shrunk(frames: Tensor) -> Tensor:
    """Small enough for a contact sheet."""
    step = max(1, frames.shape[2] // WIDEST)
    return frames[:, ::step, ::step]


def _extended(frames: Tensor, length: int) -> Tensor:
    """With the last frame repeated to ``length``."""
    return torch.cat([frames, frames[-1:].expand(length - len(frames), -1, -1, -1)])
