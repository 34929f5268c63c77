"""Training inside ComfyUI, on the latents and conditionings of its own training datasets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..bindings.comfy.training import ClipUNet, FrozenBase
from ..errors import FirstFrameError
from ..modules.i2v_adapter import I2VAdapter
from ..modules.retention import RetentionBranch
from ..modules.text import Text
from .clips.batches import Batch
from .data import BATCHES, DRAWS, seed_of
from .objective import Objective
from .recompute import recomputed

Report = Callable[[int, float], None]
"""Told the steps done and the loss of the last one; what it raises stops the training."""


@dataclass(frozen=True)
class Settings:
    """How long and how fast.

    Attributes:
        steps: of the optimiser (AdamW, as in the papers).
        num_frames: of each clip that a step sees, at most; longer clips are cut anew each time.
        drop_text: share of the steps that have the empty text, where there is one.
        checkpointing: activations are computed twice and not stored.
        seed: all draws follow from it.
    """

    steps: int
    learning_rate: float
    num_frames: int
    drop_text: float
    checkpointing: bool
    seed: int


@dataclass(frozen=True)
class HostClips:
    """Clips as the host's node Make Training Dataset gives them.

    Attributes:
        latents: of each clip, (F, C, h, w), in the UNet's scale.
        texts: of each clip (B = 1).
        images: of each clip, (F, H, W, 3) in [0, 1]; none where only latents are needed.
    """

    latents: Sequence[Tensor]
    texts: Sequence[Text]
    images: Sequence[Tensor] = ()

    def __post_init__(self) -> None:
        counts = [len(self.latents), len(self.texts), len(self.images) or len(self.latents)]
        if len(set(counts)) > 1:
            raise FirstFrameError(
                f"there are {counts[0]} latents, {counts[1]} texts and {counts[2]} clips of images: one of each is "
                "needed for every clip"
            )
        for index, latents in enumerate(self.latents):
            if latents.ndim != 4 or len(latents) < 2:
                raise FirstFrameError(
                    f"clip {index} has latents of shape {tuple(latents.shape)}: frames (F, C, h, w) are needed, two "
                    "or more. Give Make Training Dataset the frames of each video (Get Video Components)"
                )

    def batch(self, step: int, settings: Settings) -> Batch:
        """One clip, or a part of it, the same one for a step in every run."""
        generator = torch.Generator().manual_seed(seed_of(BATCHES, settings.seed, step))
        clip = _drawn(len(self.latents), generator)
        latents, count = self.latents[clip], settings.num_frames
        start = _drawn(max(1, len(latents) - count + 1), generator)
        image = self.images[clip][start, ..., :3].movedim(-1, 0) if self.images else torch.zeros(3, 8, 8)
        part = latents[start : start + count].movedim(0, 1)
        return Batch(part[None].float(), self.texts[clip].to(torch.float32), image[None].float())


def _drawn(below: int, generator: torch.Generator) -> int:
    return int(torch.randint(below, (1,), generator=generator).item())


def train_in_host(
    kind: Literal["adapter", "retention"],
    base: FrozenBase,
    clips: HostClips,
    empty: Text | None,
    settings: Settings,
    report: Report,
) -> tuple[I2VAdapter | RetentionBranch, list[float]]:
    """Train a new adapter, or a new branch, on a frozen base.

    Args:
        empty: the empty text (B = 1).
        report: called after each step.

    Returns:
        What was trained, in fp32, and the loss of each step.

    Raises:
        FirstFrameError: a loss that is not finite.
    """
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng():
        torch.manual_seed(settings.seed)  # for what starts with random weights
        part = base.new_adapter() if kind == "adapter" else base.new_retention()
        part.requires_grad_(True)
        optimiser = torch.optim.AdamW(part.parameters(), lr=settings.learning_rate)
        objective = Objective(base.alphas_cumprod, "v_prediction" if base.predicts_velocity else "epsilon")
        unet, losses = ClipUNet(base, part), list[float]()
        with recomputed(unet.recomputed) if settings.checkpointing else nullcontext():
            for step in range(settings.steps):
                loss = _loss(unet, clips.batch(step, settings), empty, objective, settings, step)
                losses.append(_checked(loss, step))
                torch.autograd.backward(loss)
                nn.utils.clip_grad_norm_(part.parameters(), 1.0)
                optimiser.step()
                optimiser.zero_grad()
                report(step + 1, losses[-1])
        return part.requires_grad_(False), losses


def _loss(
    unet: ClipUNet, batch: Batch, empty: Text | None, objective: Objective, settings: Settings, step: int
) -> Tensor:
    copied = Batch(batch.latents.clone(), batch.text.map(torch.clone), batch.images.clone())
    latents, text, images, _ = copied.to(unet.base.device)  # copies are no tensors of inference mode
    generator = torch.Generator().manual_seed(seed_of(DRAWS, settings.seed, step))
    if torch.rand(1, generator=generator).item() < settings.drop_text and empty is not None:
        text = empty.map(torch.clone).to(text.states)

    def predict(noisy: Tensor, timestep: Tensor) -> Tensor:
        return unet(noisy, timestep, text, images)

    return objective(predict, latents, generator, clean_first=isinstance(unet.part, I2VAdapter))


def _checked(loss: Tensor, step: int) -> float:
    value = loss.item()
    if not torch.isfinite(loss.detach()).item():
        raise FirstFrameError(f"the loss is {value} at step {step + 1}: lower learning_rate")
    return value


def text_of(conditioning: Any) -> Text:
    """The first prompt of a CONDITIONING."""
    states, further = conditioning[0]
    return Text(states, further.get("pooled_output")).map(lambda tensor: tensor[:1])


def as_clips(
    latents: Sequence[dict[str, Any]],
    conditionings: Sequence[Any],
    images: Sequence[Tensor],
    scaled: Callable[[Tensor], Tensor],
) -> HostClips:
    """The lists that the host's nodes pass on, as clips.

    Args:
        latents: of Make Training Dataset, ``{"samples": (F, C, h, w)}`` each.
        conditionings: of the same node; one serves all clips.
        images: (F, H, W, 3) each, or none.
        scaled: the VAE's latents to the UNet's.
    """
    texts = [text_of(conditioning) for conditioning in conditionings]
    if len(texts) == 1:
        texts *= len(latents)
    return HostClips([scaled(latent["samples"]) for latent in latents], texts, images)
