"""What is trained: an I2V adapter, or a frame retention branch with or without the base's temporal layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from ..bindings.diffusers import Injection, Parts, Retention, inject
from ..errors import FirstFrameError
from ..modules.i2v_adapter import I2VAdapter
from ..modules.layers import ResBlock, SpatialTransformer, whole_image
from ..modules.motion import TemporalTransformer
from ..modules.retention import RetentionBranch
from ..shapes import fold_frames, unfold_frames
from ..text import Text
from ..weights import I2V_ADAPTER, RETENTION, load, save
from .base import VideoBase
from .clips.batches import Batch
from .config import ModelTable, TrainTable
from .objective import Objective
from .recompute import recomputed
from .start import new_adapter, new_retention

Kind = Literal["adapter", "retention"]
RECOMPUTED = (BasicTransformerBlock, ResnetBlock2D, ResBlock, SpatialTransformer, TemporalTransformer)


class Dropped(NamedTuple):
    """What a batch lacks, so that guidance has something to compare with."""

    text: bool
    image: bool


class ClipDenoiser(nn.Module):
    """The base with the modules that run inside its UNet: noised clips to the base's prediction.

    All are submodules, so that gradients of several processes are added up.
    """

    def __init__(self, base: VideoBase, adapter: I2VAdapter | None, retention: RetentionBranch | None) -> None:
        super().__init__()
        self.unet, self.motion = base.unet, base.motion
        self.adapter, self.retention = adapter, retention
        self.injection: Injection

    @contextmanager
    def attached(self, checkpointing: bool) -> Iterator[None]:
        """Run the modules inside the UNet until the end; with ``checkpointing``, without storing activations."""
        with ExitStack() as stack:
            self.injection = stack.enter_context(inject(self.unet, self.motion, self.adapter, num_frames=2))
            if checkpointing:
                modules = (module for module in self.modules() if isinstance(module, RECOMPUTED))
                stack.enter_context(recomputed(modules))
            yield

    def forward(self, noisy: Tensor, timestep: Tensor, text: Text, images: Tensor | None, adapter: float) -> Tensor:
        """Noisy clips (B, C, F, H, W), timesteps (B,) and B texts to predictions (B, C, F, H, W).

        SDXL is told that no image was scaled or cropped, as when it samples.

        Args:
            images: frame 0, (B, 3, 8H, 8W) in [0, 1], for the retention branch; None where nothing sees the image.
            adapter: scale of the adapter.
        """
        injection, num_frames = self.injection, noisy.shape[2]
        injection.num_frames, injection.adapter_scale = num_frames, adapter
        injection.sees_image = images is not None
        injection.retention = None
        if images is not None and self.retention is not None:
            injection.retention = Retention(self.retention, self.retention.encode(images))
        timesteps = timestep.repeat_interleave(num_frames)
        states, added = text.states, _added(text, noisy)
        output: Tensor = self.unet(fold_frames(noisy), timesteps, states, return_dict=False, **added)[0]
        return unfold_frames(output, num_frames)


def _added(text: Text, noisy: Tensor) -> dict[str, Any]:
    """What SDXL's UNet is told beside the text's states."""
    if text.pooled is None:
        return {}
    sizes = whole_image(8 * noisy.shape[-2], 8 * noisy.shape[-1], len(noisy), noisy.device)
    return {"added_cond_kwargs": {"text_embeds": text.pooled, "time_ids": sizes}}


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
        denoiser = self.denoiser
        adapter = denoiser.adapter if self.kind == "adapter" else None
        return Parts(denoiser.motion, adapter, retention=denoiser.retention)

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
        images = None if dropped.image else batch.images
        beside_adapter = self.denoiser.adapter is not None and (self.kind == "adapter" or _coin(generator))
        clean_first = beside_adapter and not dropped.image

        def predict(noisy: Tensor, timestep: Tensor) -> Tensor:
            prediction: Tensor = model(noisy, timestep, text, images, float(beside_adapter))
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
    retention = None
    if kind == "adapter":
        adapter = (adapter or new_adapter(base.unet)).requires_grad_(True)
    else:
        retention = _branch(base, model).requires_grad_(True)
    return Target(kind, ClipDenoiser(base, adapter, retention), settings)


def _branch(base: VideoBase, model: ModelTable) -> RetentionBranch:
    if model.retention:
        return load(RETENTION, model.retention)
    return new_retention(base.unet, base.motion, base.stem_channels)


def _check(kind: Kind, settings: TrainTable) -> None:
    temporal = kind == "retention" and settings.temporal
    if settings.temporal and not temporal:
        raise FirstFrameError("temporal = true belongs to the retention branch: use firstframe train retention")
    if not temporal and (settings.drop_image or settings.drop_both):
        raise FirstFrameError(
            "drop_image and drop_both train nothing here: without the image, the base alone answers, which is frozen. "
            "Set them to 0, or train a retention branch with temporal = true"
        )
