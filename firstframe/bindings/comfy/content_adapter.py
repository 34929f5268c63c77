"""The content adapter (IP-Adapter Plus): from what the image encoder saw to image tokens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import comfy.model_management
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...weights import IMAGE_TOKENS, RESAMPLER
from .weights import load_in_host


@dataclass(frozen=True)
class ContentAdapter:
    """What is behind a CONTENT_ADAPTER.

    Attributes:
        resampler: a `Resampler`.
        projections: an `ImageTokenAdapter`.
    """

    resampler: ModelPatcher
    projections: ModelPatcher

    def tokens(self, features: Tensor) -> Tensor:
        """Hidden states of the image encoder (1, N, D) to tokens (1, M, token_dim), where the host computes."""
        comfy.model_management.load_models_gpu([self.resampler])
        module = self.resampler.model
        found: Tensor = module(features.to(self.resampler.load_device, module.latents.dtype))
        return found.float().to(comfy.model_management.intermediate_device())


def load_host_content_adapter(file: Path, projections: Path | None = None) -> ContentAdapter:
    """A file of IP-Adapter Plus; the projections may be in another one."""
    return ContentAdapter(load_in_host(RESAMPLER, file), load_in_host(IMAGE_TOKENS, projections or file))
