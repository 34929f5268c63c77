"""A content adapter: what CLIP sees is cached, its tokens are trained and dropped, and the file loads as one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from firstframe.bindings.diffusers.animate import Animation, animate_image
from firstframe.bindings.diffusers.models import ModelFiles, load_model
from firstframe.bindings.diffusers.vision import load_vision, see
from firstframe.errors import FirstFrameError, WeightsError
from firstframe.tiny.trainable import tiny_base
from firstframe.training.base import load_base
from firstframe.training.clips.batches import batch_of
from firstframe.training.clips.cache import Cache
from firstframe.training.clips.plan import make_plan
from firstframe.training.clips.read import Clip
from firstframe.training.config import TrainingConfig
from firstframe.training.run import Training
from firstframe.training.target import Target
from firstframe.weights import I2V_ADAPTER, IMAGE_TOKENS, RESAMPLER, load

sys.path.insert(0, str(Path(__file__).parent))
from material import FRAMES, SIDE, configuration, sampled, write_clips, write_models, write_sdxl_models
from small_checkpoint import SMALL_XL, small_vision


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("content")
    write_models(folder)
    write_clips(folder / "clips", 2)
    save_file(small_vision().state_dict(), folder / "vision.safetensors")
    return folder


def configured(folder: Path, run: Path, model: dict[str, Any] | None = None, **train: Any) -> TrainingConfig:
    settings = {"max_train_steps": 3, "save_every_n_steps": 2, "log_every_n_steps": 1, "learning_rate": 0.01}
    config = configuration(folder, folder / "clips", **{**settings, "output_dir": run, **train})
    files = model or {"clip_vision": folder / "vision.safetensors"}
    return config.model_copy(update={"model": config.model.model_copy(update=files)})


def training(config: TrainingConfig) -> Training:
    return Training.of("content", config, load_base(config.model), make_plan(config), cpu=True)


def weights(run: Path) -> dict[str, Tensor]:
    saved: dict[str, Tensor] = torch.load(run / "checkpoint.pt", weights_only=True)["weights"]
    return saved


DROPPED = {"drop_text": 0.2, "drop_image": 0.2, "drop_both": 0.2}


def test_it_trains_goes_on_and_loads(folder: Path, tmp_path: Path) -> None:
    training(configured(folder, tmp_path / "whole", **DROPPED)).run(resume=False)
    training(configured(folder, tmp_path / "cut", **DROPPED, max_train_steps=2)).run(resume=False)
    run = training(configured(folder, tmp_path / "cut", **DROPPED))
    assert run.run(resume=True) == 3
    expected, found = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert {name.split(".")[1] for name in expected} == {"resampler", "image_tokens"}
    assert all(weight.equal(found[name]) for name, weight in expected.items())
    file, content = tmp_path / "cut" / "content.safetensors", run.target.denoiser.content
    for kind, ours in ((RESAMPLER, content.resampler), (IMAGE_TOKENS, content.image_tokens)):
        saved = load(kind, file).state_dict()
        assert all(torch.allclose(weight, saved[name], atol=1e-2) for name, weight in ours.state_dict().items())
    with pytest.raises(WeightsError, match="an I2V adapter was expected"):
        load(I2V_ADAPTER, file)
    again = configured(
        folder, tmp_path / "more", {"clip_vision": folder / "vision.safetensors", "content_adapter": file}
    )
    assert training(again).run(resume=False) == 3


def test_the_file_is_a_content_adapter(folder: Path, tmp_path: Path) -> None:
    training(sampled(configured(folder, tmp_path), 3)).run(resume=False)
    assert (tmp_path / "samples" / "step_000003.png").exists()
    files = {"checkpoint": folder / "checkpoint.safetensors", "motion_module": folder / "motion.ckpt"}
    content = {"content_adapter": tmp_path / "content.safetensors", "clip_vision": folder / "vision.safetensors"}
    animation = Animation(("a square",), frames=FRAMES, steps=2, exact=False, width=SIDE, height=SIDE)
    image = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    models = (load_model(ModelFiles(**files, **more)) for more in ({}, content))
    plain, made = (animate_image(model, image, animation) for model in models)
    assert made.isfinite().all() and not torch.equal(plain, made)


def test_what_clip_sees_is_cached(folder: Path, tmp_path: Path) -> None:
    config = configured(folder, tmp_path)
    base = load_base(config.model)
    samples = make_plan(config).train
    plain = Cache(tmp_path / "cache", base.encoders)
    plain.fill(samples)
    assert plain.load(samples[0]).features is None
    cache = Cache(tmp_path / "cache", base.encoders, base.vision)
    cache.fill(samples)
    image = Clip(samples[0].source.path).frames(samples[0].frames[:1], samples[0].size)
    expected = see(load_vision(folder / "vision.safetensors"), image).image[0]
    torch.testing.assert_close(cache.load(samples[0]).features, expected, atol=1e-2, rtol=1e-2)
    assert len(list((tmp_path / "cache" / "latents").iterdir())) == len(samples), "clips are not encoded twice"


@pytest.mark.parametrize(
    ("drop", "without_text", "without_image"),
    [("drop_text", True, False), ("drop_image", False, True), ("drop_both", True, True)],
)
def test_what_is_dropped(folder: Path, tmp_path: Path, drop: str, without_text: bool, without_image: bool) -> None:
    run = training(configured(folder, tmp_path, drop_text=0.0, **({} if drop == "drop_text" else {drop: 1.0})))
    settings = run.target.settings.model_copy(update={drop: 1.0})
    cache = Cache(tmp_path / "cache", run.base.encoders, run.base.vision)
    cache.fill(run.plan.train)
    batch, empty, seen = batch_of(cache, run.plan.train[:1]), cache.text(""), dict[str, Any]()

    def model(noisy: Tensor, timestep: Any, text: Any, images: Any, features: Any, adapter: float) -> Tensor:
        seen.update(text=text, images=images, features=features)
        return noisy

    target = Target("content", run.target.denoiser, settings)
    target.loss(model, batch, empty, run.objective, torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    assert torch.equal(seen["text"].states, (empty if without_text else batch.text).states)
    content = run.target.denoiser.content
    assert torch.equal(seen["features"], content.no_image if without_image else batch.features)
    assert seen["images"] is not None, "no image has tokens of its own, which are read"


def test_the_tiny_model_by_the_same_door(folder: Path, tmp_path: Path) -> None:
    base = tiny_base(folder / "vision.safetensors")
    config = configured(folder, tmp_path, max_train_steps=1)
    assert Training.of("content", config, base, make_plan(config), cpu=True).run(resume=False) == 1
    assert load(RESAMPLER, tmp_path / "content.safetensors").config.token_dim == 128


def test_sdxl(tmp_path: Path) -> None:
    write_sdxl_models(tmp_path, pooled_unet_norms=True, betas="sdxl")
    write_clips(tmp_path / "clips")
    save_file(small_vision().state_dict(), tmp_path / "vision.safetensors")
    assert training(configured(tmp_path, tmp_path / "run", max_train_steps=1)).run(resume=False) == 1
    file = tmp_path / "run" / "content.safetensors"
    assert load(IMAGE_TOKENS, file).heads == SMALL_XL.heads
    resampler = load(RESAMPLER, file).config
    assert (resampler.token_dim, resampler.width) == (SMALL_XL.cross_attention_dim, 128)


def test_an_image_encoder_is_needed(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FirstFrameError, match="clip_vision"):
        training(configured(folder, tmp_path, {"clip_vision": None}))
