"""Each loss of the training is evaluated on a GPU, forward and backward, without leaving it or waiting for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import torch
from comfyui_firstframe_pack.firstframe.bindings.diffusers import Injection, inject
from comfyui_firstframe_pack.firstframe.modules.motion import MotionConfig, MotionModule
from comfyui_firstframe_pack.firstframe.tiny.denoiser import Denoiser, alphas_cumprod
from comfyui_firstframe_pack.firstframe.tiny.model import new_text_encoder
from comfyui_firstframe_pack.firstframe.tiny.recall import CaptionLoss, Recall, RecallingLoss
from comfyui_firstframe_pack.firstframe.training.data import ClipBatch, LatentClips
from comfyui_firstframe_pack.firstframe.training.losses import RetentionLoss, VideoLoss
from comfyui_firstframe_pack.firstframe.training.start import new_adapter, new_retention
from comfyui_firstframe_pack.firstframe.training.words import WordDropout
from diffusers import UNet2DConditionModel
from on_cuda import OneDevice, backward, fake_cuda
from torch import Tensor, nn

FRAMES = 3


@pytest.fixture(autouse=True)
def gpu() -> Iterator[None]:
    with torch.inference_mode(False), torch.enable_grad(), fake_cuda():
        yield


@pytest.fixture
def model(gpu: None) -> Denoiser:
    with torch.device("cuda"):
        unet = UNet2DConditionModel(
            block_out_channels=(32, 32),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D",) * 2,
            up_block_types=("CrossAttnUpBlock2D",) * 2,
            cross_attention_dim=128,
            attention_head_dim=4,
        )
        motion = MotionModule(MotionConfig((32, 32), 1, mid=True, max_frames=16, num_heads=4))
        return Denoiser(new_text_encoder(), unet, motion=motion, adapter=new_adapter(unet), recall=Recall())


@pytest.fixture
def batch(gpu: None) -> ClipBatch:
    with torch.device("cuda"):
        tokens = torch.zeros(2, 77, dtype=torch.long)
        positions, images = torch.arange(0, 2 * FRAMES, 2), torch.rand(2, 3, 64, 64)
        return ClipBatch(torch.randn(2, 4, FRAMES, 8, 8), tokens, torch.ones(2, 8, 8), positions, images)


@pytest.fixture
def drop_words(gpu: None) -> WordDropout:
    with torch.device("cuda"):
        empty, colours = torch.zeros(1, 77, dtype=torch.long), torch.arange(3, 6)
    return WordDropout(empty, 20, (0, 1), (colours,), drop_appearance=0.5, wrong_appearance=0.3)


@pytest.fixture
def video_loss(drop_words: WordDropout) -> Callable[..., VideoLoss]:
    with torch.device("cuda"):
        alphas = alphas_cumprod()
    return lambda injection, clean_share=0.0: VideoLoss(injection, alphas, drop_words, clean_share)


def evaluate(loss: Callable[[nn.Module, object], Tensor], model: nn.Module, batch: object) -> list[str]:
    """The names of the parameters that got gradients, all of which are on the GPU."""
    with OneDevice():
        backward(loss(model, batch))
    graded = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    assert all(gradient.is_cuda for gradient in graded.values())
    return list(graded)


def attached(model: Denoiser, adapter: bool = True) -> Injection:
    return inject(model.unet, model.motion, model.adapter if adapter else None, num_frames=FRAMES)


@pytest.mark.parametrize("num_frames", [1, 3])
def test_batches(monkeypatch, num_frames: int) -> None:
    """Drawn on the GPU; its own generators need a card."""
    monkeypatch.setattr(torch, "Generator", lambda device: SimpleNamespace(manual_seed=lambda seed: None))
    with torch.device("cuda"):
        tokens, images = torch.zeros(5, 77, dtype=torch.long), torch.zeros(5, 3, 64, 64, dtype=torch.uint8)
        clips = LatentClips(torch.randn(5, 4, 8, 8, 8).half(), tokens, torch.ones(5, 8, 8), images)
    with OneDevice():
        batch = clips.batches(2, num_frames, seed=0)(0)
    assert batch.latents.shape == (2, 4, num_frames, 8, 8)
    assert all(tensor.is_cuda for tensor in batch if tensor is not None)


@pytest.mark.parametrize("clean_share", [0.0, 0.8])
def test_text_to_video(model: Denoiser, batch: ClipBatch, video_loss, clean_share: float) -> None:
    del model.parts["adapter"]
    with inject(model.unet, model.motion, num_frames=FRAMES) as injection:
        graded = evaluate(RecallingLoss(video_loss(injection, clean_share)), model, batch)
    assert len(graded) == len(list(model.parameters()))


def test_text_to_image(model: Denoiser, batch: ClipBatch, video_loss) -> None:
    single = batch._replace(latents=batch.latents[:, :, :1], positions=None, images=None)
    with inject(model.unet, num_frames=1) as injection:
        assert evaluate(RecallingLoss(video_loss(injection)), model, single)


def test_adapter(model: Denoiser, batch: ClipBatch, video_loss) -> None:
    model.requires_grad_(False).adapter.requires_grad_(True)
    with attached(model) as injection:
        graded = evaluate(video_loss(injection, 1.0), model, batch)
    assert graded and all(name.startswith("parts.adapter.") for name in graded)


def test_retention(model: Denoiser, batch: ClipBatch, video_loss) -> None:
    model.requires_grad_(False)
    with torch.device("cuda"):
        branch = model.parts["retention"] = new_retention(model.unet, model.motion, (4, 4, 4, 8))
    with attached(model) as injection:
        loss = RetentionLoss(injection, branch, video_loss(injection), video_loss(injection, 1.0))
        graded = evaluate(loss, model, batch)
    assert graded and all(name.startswith("parts.retention.") for name in graded)


def test_captions(model: Denoiser, drop_words: WordDropout, batch: ClipBatch) -> None:
    graded = evaluate(CaptionLoss(drop_words), model, batch.tokens)
    assert graded and all(name.startswith(("text_encoder.", "parts.recall.")) for name in graded)
