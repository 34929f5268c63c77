"""The autoencoder's start and its loss."""

from __future__ import annotations

import torch
from diffusers import AutoencoderTiny
from firstframe.tiny.autoencoder_loss import AutoencoderLoss
from kornia.filters import spatial_gradient
from kornia.losses import ssim_loss
from torch.nn import functional

from firstframe.tiny.autoencoder import start_from_thumbnail
from firstframe.tiny.config import AUTOENCODER


def test_untrained_autoencoder_keeps_colours() -> None:
    torch.manual_seed(0)
    model, random = AutoencoderTiny(**AUTOENCODER), AutoencoderTiny(**AUTOENCODER)
    start_from_thumbnail(model)
    colours = torch.tensor([[0.8, -0.6, -0.6], [-0.6, 0.5, -0.7], [-0.5, -0.6, 0.8], [0.7, 0.6, -0.6]])
    pixels = colours[:, :, None, None].expand(-1, -1, 64, 64)
    with torch.no_grad():
        kept = model.decoder(model.encoder(pixels)).mean((2, 3))
        assert (kept.argmax(1) == colours.argmax(1)).all()
        loss = AutoencoderLoss.on(pixels.device)
        assert loss(model, pixels) < 0.7 * loss(random, pixels)


def test_the_filters_are_those_of_kornia() -> None:
    loss = AutoencoderLoss.on(torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 2, 3, 24, 24, generator=generator)
    torch.testing.assert_close(loss.dissimilarity(x, y), ssim_loss(x, y, window_size=7))
    edges = spatial_gradient(x).flatten(0, 1)
    assert torch.equal(
        functional.conv2d(functional.pad(x.flatten(0, 1)[:, None], (1,) * 4, "replicate"), loss.sobel), edges
    )
