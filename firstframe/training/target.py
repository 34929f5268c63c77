"""What is trained: an I2V adapter, a content adapter, or a retention branch with or without the temporal layers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from ..bindings.diffusers import Parts
from ..errors import FirstFrameError
from ..modules.i2v_adapter import I2VAdapter
from ..modules.retention import RetentionBranch
from ..modules.text import Text
from ..weights import I2V_ADAPTER, IMAGE_TOKENS, RESAMPLER, RETENTION, load, save
from .base import VideoBase
from .clips.batches import Batch
from .config import ModelTable, TrainTable
from .denoiser import ClipDenoiser, Content
from .objective import Objective
from .start import new_adapter, new_content, new_retention

Kind = Literal["adapter", "retention", "content"]


class Dropped(NamedTuple):
    """What a batch lacks, so that guidance has something to compare with."""

    text: bool
    image: bool


@dataclass(frozen=True)
class Target:
    """What a training trains, on a frozen base.

    Attributes:
        denoiser: base, and what is trained: the parameters that require gradients.
        temporal: whether the base's motion module is trained, too.
        settings: shares of what is dropped.
    """

    kind: Kind
    denoiser: ClipDenoiser
    settings: TrainTable

    @property
    def weights(self) -> dict[str, nn.Parameter]:
        """The parameters that are trained, by name."""
        return {name: weight for name, weight in self.denoiser.named_parameters() if weight.requires_grad}

    @property
    def parts(self) -> Parts:
        """For sampling with what was trained so far."""
        denoiser, content = self.denoiser, self.denoiser.content
        adapter = denoiser.adapter if self.kind == "adapter" else None
        return Parts(denoiser.motion, adapter, content.image_tokens if content else None, denoiser.retention)

    def loss(
        self, model: nn.Module, batch: Batch, empty: Text, objective: Objective, generator: torch.Generator
    ) -> Tensor:
        """The loss of a batch on the device of the model.

        Args:
            model: the denoiser, or what a library wrapped it into.
            batch: clips.
            empty: the empty caption (B = 1).
            objective: what is minimised.
            generator: of all draws, on the CPU.
        """
        dropped = self._dropped(generator)
        text = empty.expand(len(batch.latents)) if dropped.text else batch.text
        images, features = None if dropped.image else batch.images, batch.features
        if self.denoiser.content is not None and dropped.image:  # no image is one that has its own tokens
            images, features = batch.images, self.denoiser.content.no_image.expand(len(batch.latents), -1, -1)
        beside_adapter = self.denoiser.adapter is not None and (self.kind == "adapter" or _coin(generator))
        clean_first = beside_adapter and not dropped.image

        def predict(noisy: Tensor, timestep: Tensor) -> Tensor:
            prediction: Tensor = model(noisy, timestep, text, images, features, float(clean_first))
            return prediction

        return objective(predict, batch.latents, generator, clean_first)

    def _dropped(self, generator: torch.Generator) -> Dropped:
        drawn = torch.rand(1, generator=generator).item()
        both = self.settings.drop_both
        text = both + self.settings.drop_text
        image = text + self.settings.drop_image
        return Dropped(drawn < text, drawn < both or text <= drawn < image)

    def save(self, file: Path, metadata: dict[str, str], dtype: torch.dtype = torch.float16) -> None:
        """Write what is trained in the layout that the Load nodes read."""
        denoiser = self.denoiser
        if self.kind == "adapter":
            save(I2V_ADAPTER, file, cast(I2VAdapter, denoiser.adapter), metadata, dtype)
        elif denoiser.content is not None:
            content = denoiser.content
            save(IMAGE_TOKENS, file, content.image_tokens, metadata, dtype, resampler=content.resampler)
        else:
            motion = denoiser.motion if self.settings.temporal else None
            save(RETENTION, file, cast(RetentionBranch, denoiser.retention), metadata, dtype, motion)


def _coin(generator: torch.Generator) -> bool:
    return torch.rand(1, generator=generator).item() < 0.5


def new_target(kind: Kind, base: VideoBase, model: ModelTable, settings: TrainTable) -> Target:
    """What a configuration trains: new, or continued from the file that it names.

    Raises:
        FirstFrameError: settings that would train nothing.
        WeightsError: the file cannot be read.
    """
    _check(kind, settings)
    base.unet.requires_grad_(False)
    base.motion.requires_grad_(kind == "retention" and settings.temporal)
    adapter = load(I2V_ADAPTER, model.i2v_adapter).requires_grad_(False) if model.i2v_adapter else None
    retention, content = None, None
    if kind == "adapter":
        adapter = (adapter or new_adapter(base.unet)).requires_grad_(True)
    elif kind == "content":
        content = _content(base, model).requires_grad_(True)
    else:
        retention = _branch(base, model).requires_grad_(True)
    return Target(kind, ClipDenoiser(base, adapter, retention, content), settings)


def _branch(base: VideoBase, model: ModelTable) -> RetentionBranch:
    if model.retention:
        return load(RETENTION, model.retention)
    return new_retention(base.unet, base.motion, base.stem_channels)


def _content(base: VideoBase, model: ModelTable) -> Content:
    if base.vision is None:
        raise FirstFrameError("a content adapter needs CLIP's image encoder: give its file as clip_vision in [model]")
    none = base.vision.see(torch.zeros(1, 3, 8, 8)).null
    if model.content_adapter:
        return Content(load(RESAMPLER, model.content_adapter), load(IMAGE_TOKENS, model.content_adapter), none)
    return Content(*new_content(base.unet, none.shape[-1]), none)


def _check(kind: Kind, settings: TrainTable) -> None:
    temporal = kind == "retention" and settings.temporal
    if settings.temporal and not temporal:
        raise FirstFrameError("temporal = true belongs to the retention branch: use firstframe train retention")
    if kind != "content" and not temporal and (settings.drop_image or settings.drop_both):
        raise FirstFrameError(
            "drop_image and drop_both train nothing here: without the image, the base alone answers, which is frozen. "
            "Set them to 0, or train a retention branch with temporal = true, or a content adapter"
        )
