"""Recorded steps: bf16 weights beside fp32 ones, attention among few tokens, and, with a GPU, the recording itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from firstframe.bindings.diffusers import inject
from firstframe.tiny.denoiser import Denoiser, alphas_cumprod, new_base, new_motion
from firstframe.training.data import ClipBatch
from firstframe.training.losses import VideoLoss
from firstframe.training.recorded import FewTokensAttention, RecordedStep, by_sums, forward_with_bf16_weights
from firstframe.training.start import new_adapter

FRAMES = 3
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="records on a GPU")


@pytest.fixture
def model() -> Denoiser:
    torch.manual_seed(0)
    model = new_base(motion=new_motion())
    for site in model.motion:
        nn.init.normal_(model.motion[site].proj_out.weight, std=0.1)
    return model


def clips(count: int, seed: int) -> ClipBatch:
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(count, 4, FRAMES, 8, 8, generator=generator)
    return ClipBatch(latents, torch.zeros(count, 77, dtype=torch.long), torch.ones(count, 8, 8), torch.arange(FRAMES))


def test_by_sums_is_attention() -> None:
    query, key, value = torch.randn(5, 2, 7, 16), torch.randn(5, 2, 4, 16), torch.randn(5, 2, 4, 16)
    expected = functional.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(by_sums(query, key, value), expected)


@pytest.mark.parametrize(("tokens", "by_hand"), [(4, True), (8, True), (9, False)])
def test_only_few_tokens_are_attended_to_by_sums(monkeypatch, tokens: int, by_hand: bool) -> None:
    used = []
    monkeypatch.setattr("firstframe.training.recorded.by_sums", lambda *_: used.append(True))
    states = torch.randn(2, 2, tokens, 16)
    with FewTokensAttention():
        functional.scaled_dot_product_attention(states, states, states)
    assert bool(used) == by_hand


def test_bf16_weights_give_fp32_gradients_close_to_those_of_fp32(model: Denoiser) -> None:
    batch = clips(2, 1)
    model.text_encoder.requires_grad_(False)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    results = []
    with inject(model.unet, model.motion, num_frames=FRAMES) as injection:
        loss = VideoLoss(injection, alphas_cumprod(), lambda tokens: tokens)
        for bf16 in (False, True):
            torch.manual_seed(2)
            if bf16:
                with forward_with_bf16_weights(model), FewTokensAttention():
                    value = loss(model, batch)
            else:
                value = loss(model, batch)
            gradients = torch.autograd.grad(value, weights, allow_unused=True)
            assert {gradient.dtype for gradient in gradients if gradient is not None} == {torch.float32}
            results.append((value.detach(), torch.cat([g.flatten() for g in gradients if g is not None])))
    assert "forward" not in vars(model) and all(weight.dtype is torch.float32 for weight in model.parameters())
    (expected, true), (got, near) = results
    torch.testing.assert_close(got, expected, rtol=0.02, atol=0.0)
    assert torch.equal(got, expected) is False
    assert functional.cosine_similarity(near, true, dim=0) > 0.98


def test_gradients_lie_as_their_weights_do() -> None:
    """A convolution of an image with its channels last has a gradient with its channels last."""
    stem = nn.Conv2d(4, 8, 3)
    weights = dict(stem.named_parameters())
    step = RecordedStep(stem, weights, lambda model, image: model(image).square().mean())
    step.batch = torch.randn(2, 16, 16, 4).movedim(-1, 1)
    _, gradients = step._compute()
    assert [gradient.stride() for gradient in gradients] == [weight.stride() for weight in weights.values()]


@needs_gpu
def test_a_recorded_step_is_the_step(model: Denoiser) -> None:
    """Draws, loss and gradients as without a recording, for other batches than the recorded one too."""
    device = torch.device("cuda")
    model.to(device)
    model.parts["adapter"] = new_adapter(model.unet).to(device)
    model.requires_grad_(False)
    model.adapter.requires_grad_(True)
    for site in model.adapter:
        nn.init.normal_(model.adapter[site].to_out.weight, std=0.1)
    weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    with inject(model.unet, model.motion, model.adapter, num_frames=FRAMES) as injection:
        loss = VideoLoss(injection, alphas_cumprod().to(device), lambda tokens: tokens, 1.0)
        step = RecordedStep(model, weights, loss)
        for seed in (3, 4, 5):
            batch = ClipBatch(*(part.to(device) if isinstance(part, Tensor) else part for part in clips(2, seed)))
            torch.manual_seed(seed)
            got = step(batch)
            gradients = {name: weight.grad.clone() for name, weight in weights.items()}
            torch.manual_seed(seed)
            with forward_with_bf16_weights(model), FewTokensAttention():
                expected = loss(model, batch)
            true = torch.autograd.grad(expected, list(weights.values()))
            torch.testing.assert_close(got, expected.detach(), rtol=1e-3, atol=1e-5)
            for (name, gradient), other in zip(gradients.items(), true, strict=True):
                assert functional.cosine_similarity(gradient.flatten(), other.flatten(), dim=0) > 0.99, name
