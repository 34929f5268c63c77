"""A retention branch's stem that knows what the autoencoder knows: the model and the loss that teach it."""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import FirstFrameError
from ..modules.retention import RetentionBranch
from ..training.data import ClipBatch
from .config import STEM_CHANNELS, UNET


class StemReadout(nn.Module):
    """Reads an image's latents off the features of a branch's stem; thrown away after training.

    The branch alone learns slowly what to look for in an image: after a few hundred steps its stem told less than half
    of the latents' variance, and the clips were hardly like the image. A stem that tells nine tenths of it takes
    minutes.
    """

    def __init__(self, branch: RetentionBranch) -> None:
        super().__init__()
        self.branch = branch.requires_grad_(False)
        self.branch.stem.requires_grad_(True)
        self.readout = nn.Conv2d(STEM_CHANNELS[-1], UNET["in_channels"], 1)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, 8h, 8w) in [0, 1] to latents (B, C, h, w)."""
        latents: Tensor = self.readout(self.branch.encode(images))
        return latents


def stem_loss(model: StemReadout, batch: ClipBatch) -> Tensor:
    """Squared error of the first frame's latents, for a batch whose images were opened."""
    if batch.images is None:
        raise FirstFrameError("the stem is trained on images, and this batch has none")
    return (model(batch.images).float() - batch.latents[:, :, 0]).square().mean()
