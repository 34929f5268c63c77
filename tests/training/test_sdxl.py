"""SDXL by the same door: both texts are cached, adapter and branch learn with them, and what is saved loads."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from firstframe.bindings.diffusers.animate import Animation, animate_image
from firstframe.bindings.diffusers.models import ModelFiles, load_model
from firstframe.modules.text import Text
from firstframe.training.clips.cache import Cache
from firstframe.training.clips.plan import make_plan
from firstframe.training.config import TrainingConfig
from firstframe.training.run import Training
from firstframe.training.target import Kind, new_target
from firstframe.weights import I2V_ADAPTER, RETENTION, load

sys.path.insert(0, str(Path(__file__).parent))
from material import FRAMES, SIDE, SMALL_XL, base_of, configuration, sampled, write_clips, write_sdxl_models

MOTIONS: dict[Kind, dict[str, Any]] = {
    "adapter": {"norm_over_frames": True, "betas": "animatediff_sdxl"},
    "retention": {"pooled_unet_norms": True, "betas": "sdxl"},
}
BETA_END = {"adapter": 0.020, "retention": 0.012}


@pytest.fixture(params=MOTIONS)
def kind(request: pytest.FixtureRequest) -> Kind:
    kind: Kind = request.param
    return kind


@pytest.fixture
def folder(tmp_path: Path, kind: Kind) -> Path:
    write_sdxl_models(tmp_path, **MOTIONS[kind])
    write_clips(tmp_path / "clips", 2)
    return tmp_path


def configured(folder: Path, name: str, **train: Any) -> TrainingConfig:
    settings = {"max_train_steps": 3, "save_every_n_steps": 2, "log_every_n_steps": 1, "learning_rate": 0.01}
    return configuration(folder, folder / "clips", **{**settings, "output_dir": folder / name, **train})


def training(kind: Kind, config: TrainingConfig) -> Training:
    return Training.of(kind, config, base_of(config), make_plan(config), cpu=True)


def weights(run: Path) -> dict[str, Tensor]:
    saved: dict[str, Tensor] = torch.load(run / "checkpoint.pt", weights_only=True)["weights"]
    return saved


def test_it_trains_goes_on_and_loads(folder: Path, kind: Kind) -> None:
    options = {"drop_text": 0.3, "gradient_checkpointing": kind == "adapter", "batch_size": 2}
    run = training(kind, sampled(configured(folder, "whole", **options), 3))
    assert run.base.scheduler.config.beta_end == BETA_END[kind] and run.base.latent_scale == 0.13025
    assert run.run(resume=False) == 3
    assert (folder / "whole" / "samples" / "step_000003.png").exists()
    training(kind, configured(folder, "cut", **options, max_train_steps=2)).run(resume=False)
    assert training(kind, configured(folder, "cut", **options)).run(resume=True) == 3
    expected, found = weights(folder / "whole"), weights(folder / "cut")
    assert all(weight.equal(found[name]) for name, weight in expected.items())
    file = folder / "whole" / f"{kind}.safetensors"
    if kind == "adapter":
        adapter = load(I2V_ADAPTER, file)
        assert adapter.widths == SMALL_XL.attention_sites and adapter.heads == SMALL_XL.heads
    else:
        assert load(RETENTION, file).config.unet == SMALL_XL
    assert changes_a_clip(folder, {"adapter": "i2v_adapter", "retention": "retention"}[kind], file)


def changes_a_clip(folder: Path, option: str, file: Path) -> bool:
    """Whether the files of a user, with ``file`` among them, make another clip than without it."""
    files = {"checkpoint": folder / "checkpoint.safetensors", "motion_module": folder / "motion.safetensors"}
    animation = Animation(("a square",), frames=FRAMES, steps=2, retention=True, exact=False, width=SIDE, height=SIDE)
    image = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    models = (load_model(ModelFiles(**files, **more)) for more in ({}, {option: file}))
    plain, made = (animate_image(model, image, animation) for model in models)
    return bool(made.isfinite().all()) and not torch.equal(plain, made)


def test_both_texts_are_cached_and_read(folder: Path, kind: Kind) -> None:
    config = configured(folder, "run")
    base = base_of(config)
    cache = Cache(folder / "cache", base.encoders)
    cache.fill(make_plan(config).train)
    text = cache.text("square number 0 moves right")
    assert text.states.shape == (1, 77, SMALL_XL.cross_attention_dim) and text.pooled is not None
    assert torch.allclose(text.pooled, base.encoders.encode_text(["square number 0 moves right"]).pooled, atol=1e-2)
    denoiser = new_target(kind, base, config.model, config.train).denoiser
    noisy, images = torch.randn(1, 4, FRAMES, 8, 8), torch.rand(1, 3, SIDE, SIDE)
    with torch.no_grad(), denoiser.attached(checkpointing=False):
        told = (text, Text(text.states, -text.pooled))
        one, other = (denoiser(noisy, torch.tensor([500]), each, images, None, 1.0) for each in told)
        assert not torch.allclose(one, other, rtol=1e-3)


def test_what_a_step_takes_is_measured(folder: Path, kind: Kind) -> None:
    estimate = training(kind, configured(folder, "run")).estimate()
    assert estimate.trained > 1e5 and estimate.seconds > 0 and estimate.memory_gb > 0
