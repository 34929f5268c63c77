"""Losses of the diffusion stages: text-to-picture, text-to-video, and the adapter on a frozen base."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from einops import rearrange
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextModel

from ..bindings.diffusers import Injection, Retention, transformer_block, unet_config
from ..errors import FirstFrameError
from ..modules.i2v_adapter import I2VAdapter
from ..modules.motion import MotionConfig, MotionModule, TemporalAttention, sinusoidal_positions
from ..modules.retention import RetentionBranch, RetentionConfig
from ..tiny.config import MOTION, NOISE_SCHEDULE, NUM_FRAMES, STEM_CHANNELS, TEXT_ENCODER, UNET
from ..tiny.model import new_text_encoder
from ..tiny.text import known_tokens, tokenize
from .data import ClipBatch

SNR_RANGE = (1.0, 5.0)
PATH_WEIGHT = 6.0
RECALL_WEIGHT = 0.5
RECALLED_WORDS = 10
DROP_TEXT = 0.1
DROP_WORD = 0.03


class Denoiser(nn.Module):
    """Text encoder, UNet and whatever is injected into it: noisy clips and captions to v.

    ``parts`` are modules that run inside the UNet through a binding (motion module, adapter): they are held
    here so that their parameters are trained and saved.
    """

    def __init__(self, text_encoder: CLIPTextModel, unet: nn.Module, **parts: nn.Module) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        self.unet = unet
        self.parts = nn.ModuleDict(parts)

    @property
    def motion(self) -> MotionModule:
        """The part of that name."""
        return cast(MotionModule, self.parts["motion"])

    @property
    def adapter(self) -> I2VAdapter:
        """The part of that name."""
        return cast(I2VAdapter, self.parts["adapter"])

    def forward(self, noisy: Tensor, timestep: Tensor, tokens: Tensor) -> Tensor:
        """Noisy latents (B, F, C, H, W), timesteps (B,), token ids (B, 77) to v (B, F, C, H, W)."""
        frames = noisy.shape[1]
        text = self.text_encoder(tokens).last_hidden_state
        output: Tensor = self.unet(noisy.flatten(0, 1), timestep.repeat_interleave(frames), text).sample
        return rearrange(output, "(b f) c h w -> b f c h w", f=frames)

    def recall_loss(self, tokens: Tensor) -> Tensor:
        """How badly the part "recall" reads the words (B, 77) off the text states."""
        recall = cast(Recall, self.parts["recall"])
        return recall.loss(self.text_encoder(tokens).last_hidden_state, tokens)

    def save(self, file: Path) -> None:
        """All weights into one safetensors file, for the next stage and for :mod:`.export`."""
        place_frames(self, torch.arange(NUM_FRAMES))
        save_file({key: value.contiguous() for key, value in self.state_dict().items()}, file)


def new_base(file: Path | None = None, **parts: nn.Module) -> Denoiser:
    """A base with random weights, or with those that an earlier stage saved.

    Parts that the earlier stage did not have keep their own weights.
    """
    model = Denoiser(new_text_encoder(), UNet2DConditionModel(**UNET), **parts)
    if file is not None:
        model.load_state_dict(model.state_dict() | load_file(file))
    return model


def new_motion() -> MotionModule:
    """An untrained motion module for the tiny UNet."""
    return MotionModule(MotionConfig(**MOTION))


def new_adapter(unet: UNet2DConditionModel) -> I2VAdapter:
    """An untrained adapter: queries copied from ``unet``, output projections zero."""
    config = unet_config(unet)
    adapter = I2VAdapter(config.attention_sites, config.num_heads)
    adapter.copy_queries(lambda site: transformer_block(unet, site).get_parameter("attn1.to_q.weight"))
    return adapter


class Recall(nn.Linear):
    """Reads a caption's first words off each of the text encoder's states behind it; thrown away after training.

    Where most of 77 states are padding, a word that only its own state knows is hardly heard: directions moved
    nothing in the picture until the padding had to know them.
    """

    def __init__(self) -> None:
        super().__init__(TEXT_ENCODER["hidden_size"], RECALLED_WORDS * (len(known_tokens()) + 1))

    def loss(self, states: Tensor, tokens: Tensor) -> Tensor:
        """Cross-entropy of the words, from states (B, 77, D) of token ids (B, 77)."""
        behind = states[:, RECALLED_WORDS + 1 :]
        guesses = rearrange(self(behind), "b n (w v) -> b v n w", w=RECALLED_WORDS)
        words = tokens[:, None, 1 : RECALLED_WORDS + 1].expand(-1, behind.shape[1], -1)
        return functional.cross_entropy(guesses.float(), words)


def caption_loss(model: Denoiser, captions: list[str]) -> Tensor:
    """How badly captions are remembered; nothing but the text encoder is asked."""
    return model.recall_loss(drop_words(tokenize(captions)))


def new_retention(unet: UNet2DConditionModel, motion: MotionModule) -> RetentionBranch:
    """An untrained branch: the base's down blocks copied, projections zero."""
    branch = RetentionBranch(RetentionConfig(unet_config(unet), replace(motion.config, mid=False), STEM_CHANNELS))
    branch.copy_base(unet.state_dict(), motion)
    return branch


class VelocityLoss:
    """Mean squared error of v (arXiv 2202.00512), weighted to be that of the clean latents times their SNR in [1, 5].

    The upper end is min-SNR's (arXiv 2303.09556), the lower one that of truncated SNR (arXiv 2202.00512, section 4):
    without it little is learned of the noisiest steps, which settle a clip's colours for all its frames. Timesteps are
    drawn in proportion to their number: where things move is settled at high ones. Places that the thing passes count
    PATH_WEIGHT times: they are what the caption speaks of.

    Args:
        clean_share: of the clips in which frame 0 is un-noised and out of the loss. The adapter is trained with 1
            (arXiv 2312.16693, section 3.2).
        recall: add the loss of the model's part "recall".
    """

    def __init__(self, clean_share: float = 0.0, recall: bool = False) -> None:
        self.schedule = DDPMScheduler(**NOISE_SCHEDULE)
        self.clean_share, self.recall = clean_share, recall

    def __call__(self, model: nn.Module, batch: ClipBatch) -> Tensor:
        """The loss of one batch, with timesteps and noise drawn anew."""
        latents = batch.latents
        place_frames(model, batch.frames)
        timestep = (torch.rand(len(latents)).sqrt() * len(self.schedule.betas)).long()
        noise = torch.randn_like(latents)
        noisy = self.schedule.add_noise(latents, noise, timestep)
        clean = torch.rand(len(latents)) < self.clean_share
        noisy[clean, 0] = latents[clean, 0]
        velocity = self.schedule.get_velocity(latents, noise, timestep)
        tokens = drop_words(tokenize(batch.captions))
        output = model(noisy, timestep, tokens)
        error = functional.mse_loss(output.float(), velocity, reduction="none").mean(2)
        weight = torch.where(batch.paths, PATH_WEIGHT, 1.0).unsqueeze(1).repeat(1, latents.shape[1], 1, 1)
        weight[clean, 0] = 0.0
        of_clip = (error * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3))
        snr = _signal_to_noise(self.schedule, timestep)
        loss = (of_clip * snr.clamp(*SNR_RANGE) / (snr + 1)).mean()
        return loss + RECALL_WEIGHT * cast(Denoiser, model).recall_loss(tokens) if self.recall else loss


class RetentionLoss:
    """The branch's loss on a frozen base: half of the batches alone, half beside the adapter and its clean frame.

    Without the picture the frozen base itself speaks, so that only words are dropped here: what the branch learns is
    the guidance by picture with and without text.

    Args:
        injection: of base, adapter and branch.
    """

    def __init__(self, injection: Injection, branch: RetentionBranch) -> None:
        self.injection, self.branch = injection, branch
        self.alone, self.beside_adapter = VelocityLoss(), VelocityLoss(clean_share=1.0)

    def __call__(self, model: nn.Module, batch: ClipBatch) -> Tensor:
        """The loss of one batch, whose pictures were opened."""
        if batch.pictures is None:
            raise FirstFrameError("the retention branch is trained on pictures: open the latents with their scenes")
        self.injection.retention = Retention(self.branch, self.branch.encode(batch.pictures))
        alone = bool(torch.rand(()) < 0.5)
        self.injection.adapter_scale = 0.0 if alone else 1.0
        return self.alone(model, batch) if alone else self.beside_adapter(model, batch)


def _signal_to_noise(schedule: DDPMScheduler, timestep: Tensor) -> Tensor:
    alpha_squared = schedule.alphas_cumprod[timestep]
    return alpha_squared / (1 - alpha_squared)


def place_frames(model: nn.Module, frames: Tensor) -> None:
    """Let every temporal attention in ``model`` see its frames at the positions ``frames`` (F,) of a whole clip."""
    for attention in model.modules():
        if isinstance(attention, TemporalAttention) and attention.pe is not None:
            _, length, channels = attention.pe.shape
            unseen = [i for i in range(length) if i not in frames.tolist()]
            attention.pe = sinusoidal_positions(length, channels)[:, [*frames.tolist(), *unseen]]


def drop_words(tokens: Tensor) -> Tensor:
    """Some captions become empty (for guidance), and some words unknown (so that unknown words do no harm)."""
    empty = tokenize([""])
    unknown = len(known_tokens())
    spoken = ~torch.isin(tokens, empty)
    tokens = tokens.masked_fill(spoken & (torch.rand(tokens.shape) < DROP_WORD), unknown)
    return torch.where(torch.rand(len(tokens), 1) < DROP_TEXT, empty, tokens)
