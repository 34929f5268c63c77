from __future__ import annotations

import pytest
import torch

from firstframe.clips.metrics import first_frame_ssim, psnr, ssim


def clip(seed: int = 0) -> torch.Tensor:
    coarse = torch.rand(3, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, (48, 40), mode="bicubic").clamp(0, 1).movedim(1, -1)


def test_equal_clips():
    assert ssim(clip(), clip()) == pytest.approx(1)
    assert psnr(clip(), clip()) == pytest.approx(100)


def test_as_skimage():
    metrics = pytest.importorskip("skimage.metrics")
    truth = clip()
    frames = (truth + 0.05 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    expected = [
        metrics.structural_similarity(
            a.numpy(),
            b.numpy(),
            channel_axis=-1,
            data_range=1,
            gaussian_weights=True,
            use_sample_covariance=False,
        )
        for a, b in zip(frames, truth, strict=True)
    ]
    assert ssim(frames, truth) == pytest.approx(sum(expected) / 3, abs=1e-3)
    ratios = [metrics.peak_signal_noise_ratio(b.numpy(), a.numpy()) for a, b in zip(frames, truth, strict=True)]
    assert psnr(frames, truth) == pytest.approx(sum(ratios) / 3, abs=1e-3)


def test_bytes_and_floats():
    frames = (clip() * 255).round().to(torch.uint8)
    assert ssim(frames, clip(1)) == pytest.approx(ssim(frames.float() / 255, clip(1)))


def test_first_frame_looks_at_the_first_only():
    truth, frames = clip(), torch.cat([clip()[:1], clip(1)[1:]])
    assert first_frame_ssim(frames, truth[0]) == pytest.approx(1) and ssim(frames, truth) < 0.8
