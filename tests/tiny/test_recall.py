"""A text encoder that remembers its caption."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from firstframe.bindings.diffusers import inject
from firstframe.tiny.data import caption_batches
from firstframe.tiny.denoiser import Denoiser, alphas_cumprod, new_base
from firstframe.tiny.recall import RECALL_WEIGHT, CaptionLoss, Recall, RecallingLoss, tiny_word_dropout
from firstframe.tiny.text import tokenize
from firstframe.training.data import ClipBatch
from firstframe.training.losses import VideoLoss

CPU = torch.device("cpu")


@pytest.fixture
def model() -> Denoiser:
    torch.manual_seed(0)
    return new_base(recall=Recall())


def test_recall_is_learned_from_the_text_alone(model: Denoiser) -> None:
    optimizer = torch.optim.AdamW([*model.text_encoder.parameters(), *model.parts.parameters()], lr=3e-3)
    batches, loss, losses = caption_batches(16, 8, 0, CPU), CaptionLoss(tiny_word_dropout(CPU)), []
    for step in range(25):
        optimizer.zero_grad()
        value = loss(model, batches(step))
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all(weight.grad is None for weight in model.unet.parameters())


def test_recall_adds_its_share_to_the_loss_of_the_same_words(model: Denoiser, monkeypatch) -> None:
    seen = list[Tensor]()

    class Forgetful(nn.Module):
        def loss(self, states: Tensor, tokens: Tensor) -> Tensor:
            seen.append(tokens)
            return torch.tensor(100.0)

    def predicted(noisy: Tensor, timestep: Tensor, tokens: Tensor) -> Tensor:
        seen.append(tokens)
        return torch.zeros_like(noisy)

    model.parts["recall"] = Forgetful()
    monkeypatch.setattr(model, "forward", predicted)
    batch = ClipBatch(torch.zeros(2, 4, 1, 16, 16), tokenize(["a red star moves left"] * 2), torch.ones(2, 16, 16))
    values = []
    with inject(model.unet, num_frames=1) as injection:
        video = VideoLoss(injection, alphas_cumprod(), tiny_word_dropout(CPU))
        for loss in (video, RecallingLoss(video)):
            torch.manual_seed(0)
            values.append(loss(model, batch).item())
    assert values[1] - values[0] == pytest.approx(100 * RECALL_WEIGHT, rel=1e-4)
    assert torch.equal(seen[1], seen[2])


def test_colours_and_shapes_are_the_words_for_appearance() -> None:
    torch.manual_seed(0)
    caption = tokenize(["a red star moves left quickly, still camera"])
    plain, unknown = (replace(tiny_word_dropout(CPU, share), drop_caption=0.0, drop_word=0.0) for share in (0.0, 1.0))
    assert torch.equal(plain(caption), caption)
    assert torch.equal(unknown(caption), tokenize(["a zorp blib moves left quickly, still camera"]))
