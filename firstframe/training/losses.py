"""What the loop minimises: the loss of video models, and that of a frame retention branch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..bindings.diffusers import Injection, Retention
from ..errors import FirstFrameError
from ..modules.retention import RetentionBranch
from .data import ClipBatch
from .velocity import draw, velocity_loss


@dataclass(frozen=True)
class VideoLoss:
    """`.velocity_loss` of one batch, with noise, timesteps and words drawn anew.

    Attributes:
        injection: of the model's UNet, told where the frames are.
        alphas_cumprod: alpha squared of each timestep, (T,), on the device of the batches.
        drop_words: captions (B, N) to captions with some words left out.
        clean_share: of the clips in which frame 0 is un-noised and out of the loss. The adapter is trained with 1
            (arXiv 2312.16693, section 3.2).
    """

    injection: Injection
    alphas_cumprod: Tensor
    drop_words: Callable[[Tensor], Tensor]
    clean_share: float = 0.0

    def __call__(self, model: Any, batch: ClipBatch) -> Tensor:
        """``model(noisy, timestep, tokens)`` predicts v."""
        return self.of_words(model, batch, self.drop_words(batch.tokens))

    def of_words(self, model: Any, batch: ClipBatch, tokens: Tensor) -> Tensor:
        """The loss with these captions (B, N) in place of the batch's."""
        self.injection.positions = batch.positions
        drawn = draw(batch.latents, len(self.alphas_cumprod), self.clean_share)

        def predict(noisy: Tensor, timestep: Tensor) -> Tensor:
            velocity: Tensor = model(noisy, timestep, tokens)
            return velocity

        return velocity_loss(predict, batch.latents, batch.weights, drawn, self.alphas_cumprod)


@dataclass(frozen=True)
class RetentionLoss:
    """The branch's loss on a frozen base: half of the clips alone, half beside the adapter and its clean frame.

    Attributes:
        injection: of base and adapter.
        branch: to be trained.
        alone: without a clean frame.
        beside_adapter: with one.
    """

    injection: Injection
    branch: RetentionBranch
    alone: VideoLoss
    beside_adapter: VideoLoss

    def __call__(self, model: Any, batch: ClipBatch) -> Tensor:
        """The loss of one batch of two clips or more, whose images were opened."""
        if batch.images is None:
            raise FirstFrameError("the retention branch is trained on images, and this batch has none")
        features, half = self.branch.encode(batch.images), len(batch.latents) // 2
        halves = ((self.alone, 0.0, slice(half)), (self.beside_adapter, 1.0, slice(half, None)))
        losses = []
        for loss, adapter_scale, clips in halves:
            self.injection.retention = Retention(self.branch, features[clips])
            self.injection.adapter_scale = adapter_scale
            losses.append(loss(model, batch.only(clips)))
        return torch.stack(losses).mean()
