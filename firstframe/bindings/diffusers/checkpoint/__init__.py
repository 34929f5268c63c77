"""Stable Diffusion 1.5 from the files that users have, as diffusers' and transformers' classes, without a download."""

from __future__ import annotations

from .autoencoder import Autoencoder, load_autoencoder
from .load import Checkpoint, load_checkpoint
from .text import TextEncoder
from .tokenizer import clip_tokenizer

__all__ = ["Autoencoder", "Checkpoint", "TextEncoder", "clip_tokenizer", "load_autoencoder", "load_checkpoint"]
