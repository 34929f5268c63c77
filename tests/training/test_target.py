"""Every part that can be trained learns one clip, and drops what it is told to."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from firstframe.training.base import load_base
from firstframe.training.clips.batches import Batch
from firstframe.training.config import TrainTable
from firstframe.training.objective import Objective
from firstframe.training.target import Kind, Target, new_target

sys.path.insert(0, str(Path(__file__).parent))
from material import configuration, moving_square, write_models
from small_checkpoint import small_vision

OVERFIT: list[tuple[Kind, dict[str, Any], float, int]] = [
    ("adapter", {}, 0.1, 60),
    ("retention", {}, 0.01, 100),
    ("retention", {"temporal": True}, 0.01, 60),
    ("content", {}, 0.03, 150),
]
NEAR_ZERO = 0.05
SIDE = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("target")
    write_models(folder)
    save_file(small_vision().state_dict(), folder / "vision.safetensors")
    return folder


def new(folder: Path, kind: Kind, **train: Any) -> tuple[Target, Batch, Objective]:
    """A target, one clip, and what is minimised."""
    torch.manual_seed(0)
    config = configuration(folder, folder, **train)
    base = load_base(config.model.model_copy(update={"clip_vision": folder / "vision.safetensors"}))
    frames = moving_square(2, SIDE, SIDE).movedim(-1, 1).float() / 255
    latents = base.encoders.encode(frames).movedim(0, 1)[None]
    text, features = base.encoders.encode_text(["a square moves right"]), base.vision.see(frames[:1]).image
    objective = Objective(base.scheduler.alphas_cumprod, base.scheduler.config.prediction_type)
    return new_target(kind, base, config.model, config.train), Batch(latents, text, frames[:1], features), objective


@torch.no_grad()
def as_if_trained(target: Target) -> None:
    """A random base predicts a third of the noise's size at most, so that no part of it could learn all of it."""
    target.denoiser.unet.conv_out.weight.mul_(3)
    if target.kind == "content":  # whose words the random motion would scramble
        for site in target.denoiser.motion:
            target.denoiser.motion[site].proj_out.weight.zero_()


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "train", "rate", "steps"), OVERFIT)
def test_one_clip_is_learned(folder: Path, kind: Kind, train: dict[str, Any], rate: float, steps: int) -> None:
    """One clip with one noise and one timestep: the loss falls to 5 % or less, on a small base."""
    target, batch, objective = new(folder, kind, **train)
    as_if_trained(target)
    optimiser = torch.optim.AdamW(target.weights.values(), lr=rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    losses = []
    with target.denoiser.attached(checkpointing=False):
        for _ in range(steps):
            generator = torch.Generator().manual_seed(3)
            loss = target.loss(target.denoiser, batch, batch.text, objective, generator)
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
            losses.append(loss.item())
    assert losses[-1] < NEAR_ZERO * losses[0], losses[:: steps // 5]


@pytest.mark.parametrize(
    ("drop", "without_text", "without_image"),
    [("drop_text", True, False), ("drop_image", False, True), ("drop_both", True, True)],
)
def test_what_is_dropped(folder: Path, drop: str, without_text: bool, without_image: bool) -> None:
    target, batch, objective = new(folder, "retention", temporal=True)
    settings = TrainTable(output_dir=folder, temporal=True, **{"drop_text": 0.0, drop: 1.0})
    empty, seen = batch.text.map(torch.zeros_like), {}

    def model(noisy: Any, timestep: Any, text: Any, images: Any, features: Any, adapter: float) -> Any:
        seen.update(text=text, images=images)
        return noisy

    target = Target(target.kind, target.denoiser, settings)
    target.loss(model, batch, empty, objective, torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    assert torch.equal(seen["text"].states, (empty if without_text else batch.text).states)
    assert (seen["images"] is None) == without_image


def test_shares_of_what_is_dropped(folder: Path) -> None:
    target, *_ = new(folder, "retention", temporal=True, drop_text=0.2, drop_image=0.3, drop_both=0.1)
    generator = torch.Generator().manual_seed(0)
    drawn = [tuple(target._dropped(generator)) for _ in range(4000)]
    shares = [drawn.count(kind) / len(drawn) for kind in ((True, False), (False, True), (True, True))]
    assert shares == pytest.approx([0.2, 0.3, 0.1], abs=0.03)
