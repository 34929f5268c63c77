"""Where the host's image-to-video models keep their image, and what a prediction without it is given instead.

Some read it from keys of the conditioning (Wan 2.1, HunyuanVideo, LTX guides). Others find it in the latent, under a
mask that keeps it there at every step (Wan 2.2 5B, LTX, Cosmos). Latents are clips (B, C, F, H, W).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from comfy.conds import CONDRegular
from comfy.model_base import BaseModel
from torch import Tensor

from ...sampling.guidance import softened

IMAGE_LATENTS = ("concat_latent_image", "ref_latent", "time_dim_replace")
IMAGE_KEYS = (
    *IMAGE_LATENTS,
    "concat_mask",
    "clip_vision_output",
    "reference_latents",
    "time_dim_concat",
    "guiding_frame_index",
    "keyframe_idxs",
    "guide_attention_entries",
)
ONE_A_CALL = frozenset({"ref_latent", "guiding_frame_index"})
"""HunyuanVideo cannot take these of two conditionings in one call; the host's nodes give them to the prompt alone."""

ALONE = "firstframe_alone"


def image_of(conditioning: list[Any]) -> dict[str, Any]:
    """What a CONDITIONING knows of an image; nothing if it has none."""
    found = ({key: extra[key] for key in IMAGE_KEYS if key in extra} for _, extra in conditioning)
    return next((image for image in found if image), {})


def with_image(conditioning: list[Any], image: dict[str, Any]) -> list[Any]:
    """A copy of a CONDITIONING with what it lacks of an image: some nodes give it to the prompt alone.

    The host does not put it into one call with the prompt where the model could not take that.
    """
    mark = {ALONE: CONDRegular(torch.ones(1, 1))} if ONE_A_CALL & image.keys() else {}
    return [
        [embedding, {**image, **extra, "model_conds": {**extra.get("model_conds", {}), **mark}}]
        for embedding, extra in conditioning
    ]


def without_image(conditioning: list[Any]) -> list[Any]:
    """A copy of a CONDITIONING without what it knows of an image."""
    return [
        [embedding, {key: value for key, value in extra.items() if key not in IMAGE_KEYS}]
        for embedding, extra in conditioning
    ]


def with_soft_image(conditioning: list[Any], detail: float) -> list[Any]:
    """A copy of a CONDITIONING whose image has ``detail`` of its resolution, as ``softened`` makes it."""
    return [
        [embedding, {**extra, **{key: softened(extra[key], detail) for key in IMAGE_LATENTS if key in extra}}]
        for embedding, extra in conditioning
    ]


def guide_frames(entries: list[dict[str, Any]], latent: Tensor) -> int:
    """How many frames behind the clip are LTX's guides: ``keyframe_idxs`` tells where each of their tokens belongs."""
    tokens = max((entry["keyframe_idxs"].shape[2] for entry in entries if "keyframe_idxs" in entry), default=0)
    return int(tokens // latent[0, 0, 0].numel())


def without_latent(entries: list[dict[str, Any]], latent: Tensor) -> list[dict[str, Any]]:
    """A guider's conditioning that is told of an empty latent without a mask, whatever latent is sampled.

    A model takes its image from there where the conditioning has none.
    """
    return [{**entry, "latent_image": torch.zeros_like(latent), "denoise_mask": None} for entry in entries]


@dataclass(frozen=True)
class HeldImage:
    """An image in the latent, which the host writes into every step's input wherever ``mask`` is below 1.

    Attributes:
        latent, noise, mask: as the sampler has them, (B, C, F, H, W).
        guides: the last of the F frames that are no part of the clip.
    """

    model: BaseModel
    latent: Tensor
    noise: Tensor
    mask: Tensor
    guides: int = 0

    def hidden(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The input without guides, and with noise over the image, as much as over the other frames."""
        level = sigma.reshape(-1, *[1] * (x.ndim - 1))
        noisy = self._replaced(x, sigma, self.model.model_sampling.noise_scaling(level, self.noise, self.latent))
        return noisy[:, :, : self._length]

    def whole(self, denoised: Tensor) -> Tensor:
        """What is predicted from `hidden`, with the guides behind it."""
        return torch.cat([denoised, self.latent[:, :, self._length :]], dim=2)

    def soft(self, x: Tensor, sigma: Tensor, detail: float) -> Tensor:
        """The input with a softened image."""
        return self._replaced(x, sigma, self._shown(x, sigma, softened(self.latent, detail)))

    def in_place(self, denoised: Tensor) -> Tensor:
        """A prediction with the image where it is held for good: what is predicted there has no meaning."""
        return torch.where(self.mask > 0, denoised, self.latent)

    @property
    def _length(self) -> int:
        return self.latent.shape[2] - self.guides

    def _replaced(self, x: Tensor, sigma: Tensor, wanted: Tensor) -> Tensor:
        return x + (1.0 - self.mask) * (wanted - self._shown(x, sigma, self.latent))

    def _shown(self, x: Tensor, sigma: Tensor, latent: Tensor) -> Tensor:
        shown: Tensor = self.model.scale_latent_inpaint(
            x=x, sigma=sigma, noise=self.noise, latent_image=latent, denoise_mask=self.mask
        )
        return shown
