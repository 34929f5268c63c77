"""The base of a training with the modules that run inside its UNet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from ..bindings.diffusers import Injection, Retention, inject
from ..modules.i2v_adapter import I2VAdapter
from ..modules.image_prompt import ImageTokenAdapter, Resampler
from ..modules.layers import ResBlock, SpatialTransformer, whole_image
from ..modules.motion import TemporalTransformer
from ..modules.retention import RetentionBranch
from ..modules.text import Text
from ..shapes import fold_frames, unfold_frames
from .base import VideoBase
from .recompute import recomputed

RECOMPUTED = (BasicTransformerBlock, ResnetBlock2D, ResBlock, SpatialTransformer, TemporalTransformer)


class Content(nn.Module):
    """A content adapter: what makes tokens of an image's features, and the attentions that read them.

    Attributes:
        no_image: features of no image, (1, N, D).
    """

    no_image: Tensor

    def __init__(self, resampler: Resampler, image_tokens: ImageTokenAdapter, no_image: Tensor) -> None:
        super().__init__()
        self.resampler, self.image_tokens = resampler, image_tokens
        self.register_buffer("no_image", no_image, persistent=False)


class ClipDenoiser(nn.Module):
    """The base with the modules that run inside its UNet: noised clips to the base's prediction.

    All are submodules, so that gradients of several processes are added up.
    """

    def __init__(
        self,
        base: VideoBase,
        adapter: I2VAdapter | None = None,
        retention: RetentionBranch | None = None,
        content: Content | None = None,
    ) -> None:
        super().__init__()
        self.unet, self.motion = base.unet, base.motion
        self.adapter, self.retention, self.content = adapter, retention, content
        self.injection: Injection

    @contextmanager
    def attached(self, checkpointing: bool) -> Iterator[None]:
        """Run the modules inside the UNet until the end; with ``checkpointing``, without storing activations."""
        with ExitStack() as stack:
            tokens = self.content.image_tokens if self.content else None
            self.injection = stack.enter_context(inject(self.unet, self.motion, self.adapter, tokens, num_frames=2))
            if checkpointing:
                modules = (module for module in self.modules() if isinstance(module, RECOMPUTED))
                stack.enter_context(recomputed(modules))
            yield

    def forward(
        self,
        noisy: Tensor,
        timestep: Tensor,
        text: Text,
        images: Tensor | None,
        features: Tensor | None,
        adapter: float,
    ) -> Tensor:
        """Noisy clips (B, C, F, H, W), timesteps (B,) and B texts to predictions (B, C, F, H, W).

        SDXL is told that no image was scaled or cropped, as when it samples.

        Args:
            images: frame 0, (B, 3, 8H, 8W) in [0, 1], for the retention branch; None where nothing sees the image.
            features: of frame 0 or of no image, (B, N, D), for a content adapter.
            adapter: scale of the adapter.
        """
        injection, num_frames = self.injection, noisy.shape[2]
        injection.num_frames, injection.adapter_scale = num_frames, adapter
        injection.sees_image = images is not None
        injection.retention = None
        if images is not None and self.retention is not None:
            injection.retention = Retention(self.retention, self.retention.encode(images))
        timesteps = timestep.repeat_interleave(num_frames)
        states, added = self.told(text, features).states, _added(text, noisy)
        output: Tensor = self.unet(fold_frames(noisy), timesteps, states, return_dict=False, **added)[0]
        return unfold_frames(output, num_frames)

    def told(self, text: Text, features: Tensor | None) -> Text:
        """With the content adapter's tokens of ``features`` (B, N, D) behind the text, if there is one."""
        if self.content is None:
            return text
        tokens = self.content.resampler(features)
        return text._replace(states=torch.cat([text.states, tokens.to(text.states)], dim=1))


def _added(text: Text, noisy: Tensor) -> dict[str, Any]:
    """What SDXL's UNet is told beside the text's states."""
    if text.pooled is None:
        return {}
    sizes = whole_image(8 * noisy.shape[-2], 8 * noisy.shape[-1], len(noisy), noisy.device)
    return {"added_cond_kwargs": {"text_embeds": text.pooled, "time_ids": sizes}}
