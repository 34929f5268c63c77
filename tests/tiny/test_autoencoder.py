"""The autoencoder's start and its loss."""

from __future__ import annotations

import torch
from diffusers import AutoencoderTiny

from firstframe.tiny.autoencoder import autoencoder_loss, start_from_thumbnail
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
        assert autoencoder_loss(model, pixels) < 0.7 * autoencoder_loss(random, pixels)
