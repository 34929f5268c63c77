"""The loss of the tiny autoencoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

SSIM_WEIGHT = 0.1
EDGE_WEIGHT = 0.5
MOMENT_WEIGHT = 0.05
LATENT_NOISE = 0.05
SCALES = (1, 4, 8)
WINDOW, SIGMA = 7, 1.5


@dataclass(frozen=True)
class AutoencoderLoss:
    """Absolute error at three scales and of edges, structural dissimilarity, and latents kept at unit variance.

    The latents get a little noise before they are decoded, so that near latents mean near images. kornia has both
    filters, but uploads their weights in each call, for which a GPU would have to wait.

    Attributes:
        sobel: derivatives along x and y, (2, 1, 3, 3).
        window: of structural similarity, (1, 1, 7, 7).
    """

    sobel: Tensor
    window: Tensor

    @classmethod
    def on(cls, device: torch.device) -> AutoencoderLoss:
        """With filters on the device of the pixels."""
        along_x = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], device=device) / 8
        bell = torch.exp(-((torch.arange(WINDOW, device=device) - WINDOW // 2) ** 2) / (2 * SIGMA**2))
        window = bell.outer(bell) / bell.sum() ** 2
        return cls(torch.stack([along_x, along_x.T]).unsqueeze(1), window[None, None])

    def __call__(self, model: Any, pixels: Tensor) -> Tensor:
        """The loss of an AutoencoderTiny on pixels (B, 3, H, W) in [-1, 1]."""
        latents = model.encoder(pixels)
        decoded = model.decoder(latents + LATENT_NOISE * torch.randn_like(latents))
        difference = decoded - pixels
        error = torch.stack([functional.avg_pool2d(difference, scale).abs().mean() for scale in SCALES]).sum()
        edges = _filtered(difference, self.sobel, "replicate").abs().mean()
        dissimilarity = self.dissimilarity(decoded / 2 + 0.5, pixels / 2 + 0.5)
        return error + EDGE_WEIGHT * edges + SSIM_WEIGHT * dissimilarity + MOMENT_WEIGHT * _moments(latents)

    def dissimilarity(self, x: Tensor, y: Tensor) -> Tensor:
        """(1 - SSIM) / 2 of images (B, 3, H, W) in [0, 1] (Wang et al. 2004, Equation 13)."""
        moments = _filtered(torch.cat([x, y, x * x, y * y, x * y]), self.window, "reflect")
        mean_x, mean_y, square_x, square_y, product = moments.chunk(5)
        luminance = (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
        variances = square_x - mean_x**2 + square_y - mean_y**2
        contrast_structure = (2 * (product - mean_x * mean_y) + 0.03**2) / (variances + 0.03**2)
        return ((1 - luminance * contrast_structure) / 2).clamp(0, 1).mean()


def _filtered(images: Tensor, kernels: Tensor, border: str) -> Tensor:
    """Each channel by each kernel: (B, C, H, W) and (K, 1, S, S) to (B*C, K, H, W)."""
    radius = kernels.shape[-1] // 2
    padded = functional.pad(images.flatten(0, 1).unsqueeze(1), (radius,) * 4, border)
    return functional.conv2d(padded, kernels)


def _moments(latents: Tensor) -> Tensor:
    """How far each channel is from mean 0 and deviation 1."""
    deviation, mean = torch.std_mean(latents, (0, 2, 3))
    return mean.square().mean() + (deviation - 1).square().mean()
