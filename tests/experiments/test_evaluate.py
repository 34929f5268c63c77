"""Clips against references: invariants of every number, the table and the page."""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from typer.testing import CliRunner

from firstframe.bindings.diffusers.vision import MEAN, STD
from firstframe.cli.app import app
from firstframe.clips.video import write_clip
from firstframe.errors import FirstFrameError, FramesError, WeightsError
from firstframe.experiments.evaluation.embedding import ClipEmbedding
from firstframe.experiments.evaluation.flow import Dis
from firstframe.experiments.evaluation.measure import TERMS, measure_clip
from firstframe.experiments.evaluation.pairs import Pair, find_pairs
from firstframe.experiments.evaluation.run import Weights, evaluate
from firstframe.experiments.evaluation.sets import c3d_probabilities, frechet_distance, i3d_features, inception_score
from firstframe.weights.files import save_state_dict

sys.path.insert(0, str(Path(__file__).parents[1]))  # for what the tests share
from small_checkpoint import small_vision

CPU = torch.device("cpu")
SIDE, FRAMES = 64, 12


def moving(seed: int, step: int = 2) -> Tensor:
    """A smooth image that moves to the right, (F, H, W, 3) in [0, 1]."""
    coarse = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    wide = functional.interpolate(coarse, (SIDE, 2 * SIDE), mode="bicubic").clamp(0, 1)[0]
    starts = [SIDE - step * frame for frame in range(FRAMES)]
    return torch.stack([wide[:, :, start : start + SIDE].movedim(0, -1) for start in starts])


def lossless(path: Path, frames: Tensor) -> Path:
    return write_clip(path, frames, format="mp4 near-lossless")


@pytest.fixture(scope="module")
def vision(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CLIP's image encoder with its projection, small, in transformers' names."""
    state = small_vision().state_dict()
    file = tmp_path_factory.mktemp("clip") / "model.safetensors"
    save_file({name: 5 * tensor for name, tensor in state.items()}, file)
    return file


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Three true clips, and the same as if they had been made."""
    made, true = (tmp_path_factory.mktemp(name) for name in ("made", "true"))
    for seed in range(3):
        lossless(true / f"scene{seed}.mp4", moving(seed))
        lossless(made / f"scene{seed}_p001_s{seed}_8f2a1239.mp4", moving(seed))
    return made, true


def test_equal_clips(folders: tuple[Path, Path], vision: Path) -> None:
    results = evaluate(*folders, Weights(clip=vision), CPU)
    assert len(results["clips"]) == 3
    summary = results["summary"]
    assert summary["fff_ssim"] == pytest.approx(1, abs=1e-5)
    assert summary["fff_clip"] == pytest.approx(1, abs=1e-5)
    assert summary["frechet_clip"] == pytest.approx(0, abs=1e-6)
    assert 0 < summary["clip_temp"] < 1
    assert summary["flow_score"] == pytest.approx(2, abs=0.5)
    assert results["made_with"]["flow"] == "DIS (OpenCV, medium)"
    assert "FVD" in results["left_out"] and "fvd" not in summary


def pair(tmp_path: Path, frames: Tensor, image: Tensor) -> Pair:
    lossless(tmp_path / "image.mp4", image)
    return Pair(lossless(tmp_path / "clip.mp4", frames), tmp_path / "image.mp4")


def test_a_still_and_shuffled_frames(tmp_path: Path, vision: Path) -> None:
    clip, dis, frames = ClipEmbedding(vision, CPU), Dis(), moving(0)
    still = measure_clip(pair(tmp_path, frames[:1].repeat(FRAMES, 1, 1, 1), frames), dis, clip).numbers
    whole = measure_clip(pair(tmp_path, frames, frames), dis, clip).numbers
    order = torch.randperm(FRAMES, generator=torch.Generator().manual_seed(3))
    mixed = measure_clip(pair(tmp_path, frames[order], frames), dis, clip).numbers
    assert still["clip_temp"] == pytest.approx(1, abs=2e-3) and still["flow_score"] < 0.05
    assert still["warping_error"] < whole["warping_error"] < mixed["warping_error"]
    assert whole["flow_score"] < mixed["flow_score"]
    assert whole["clip_temp"] == pytest.approx(mixed["clip_temp"], abs=0.03), "the order of frames does not count"
    assert mixed["fff_ssim"] < whole["fff_ssim"] and mixed["fff_clip"] < whole["fff_clip"]


def test_clip_embeddings_are_those_of_transformers(vision: Path) -> None:
    embedding = ClipEmbedding(vision, CPU)
    images = torch.rand(2, 28, 28, 3).mul(255).round() / 255
    pixels = images.movedim(-1, 1)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    model = small_vision()
    model.load_state_dict(load_file(vision))
    expected = functional.normalize(model((pixels - mean) / std).image_embeds, dim=-1)
    torch.testing.assert_close(embedding(images), expected, rtol=1e-4, atol=1e-5)


def test_references_are_found_by_their_names(tmp_path: Path) -> None:
    clips, references = tmp_path / "clips", tmp_path / "references"
    for folder in (clips, references):
        folder.mkdir()
    for name in ("cat.png", "cat_2.png", "dog.jpg"):
        (references / name).touch()
    for name in ("cat_p001_s1_8f2a1239.mp4", "cat_2_p001_s1_8f2a1239.mp4", "dog.mp4"):
        (clips / name).touch()
    found = {one.clip.stem.split("_p")[0]: one.reference.name for one in find_pairs(clips, references)}
    assert found == {"cat": "cat.png", "cat_2": "cat_2.png", "dog": "dog.jpg"}
    (clips / "category.mp4").touch()
    with pytest.raises(FirstFrameError, match="category"):
        find_pairs(clips, references)


def test_a_single_frame(tmp_path: Path) -> None:
    with pytest.raises(FramesError, match="two frames"):
        measure_clip(pair(tmp_path, moving(0)[:1], moving(0)), Dis(), None)


def test_no_clip_weights_in_the_file(tmp_path: Path) -> None:
    save_state_dict(tmp_path / "other.safetensors", {"a": torch.zeros(1)}, {})
    with pytest.raises(WeightsError, match="no CLIP image encoder"):
        ClipEmbedding(tmp_path / "other.safetensors", CPU)


def test_frechet_distance_of_gaussians() -> None:
    """Of two sets with the same deviations: the squared distance of their means."""
    features = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-8)
    assert frechet_distance(features + 2, features) == pytest.approx(4 * 6, rel=1e-6)
    assert frechet_distance(3 * features, features) > 1
    with pytest.raises(FirstFrameError, match="two clips"):
        frechet_distance(features[:1], features)


def test_inception_score() -> None:
    """All classes, each for certain: their number. No class preferred: 1."""
    certain = torch.eye(5).repeat(8, 1)
    assert inception_score(certain, splits=1) == pytest.approx(5, rel=1e-4)
    assert inception_score(torch.full((40, 5), 0.2)) == pytest.approx(1, abs=1e-4)


class StandIn(torch.nn.Module):
    """Takes what I3D takes: a clip (B, 3, F, H, W), 0 to 255."""

    def forward(self, x: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False) -> Tensor:
        assert rescale and resize and return_features and x.shape[1] == 3
        change = (x[:, :, 1:] - x[:, :, :-1]).abs()
        return torch.stack([x.mean((1, 2, 3, 4)), x.std((1, 2, 3, 4)), change.mean((1, 2, 3, 4))], 1)


class Classes(torch.nn.Module):
    """Takes what C3D takes: 16 frames."""

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[2] == 16
        return torch.cat([x.mean((2, 3, 4)) / 255, x.std((2, 3, 4)) / 255], 1)


def test_fvd_and_is_through_torchscript(folders: tuple[Path, Path], tmp_path: Path) -> None:
    files = {name: tmp_path / f"{name}.pt" for name in ("i3d", "c3d")}
    for module, file in ((StandIn(), files["i3d"]), (Classes(), files["c3d"])):
        torch.jit.script(module).save(str(file))
    results = evaluate(*folders, Weights(**files), CPU)
    assert results["summary"]["fvd"] == pytest.approx(0, abs=1e-3)
    assert results["summary"]["video_is"] >= 1
    assert results["made_with"]["I3D"] == "i3d.pt"
    other = tmp_path / "other"
    other.mkdir()
    for seed in range(3):
        lossless(other / f"scene{seed}.mp4", moving(seed, step=0))
    assert evaluate(other, folders[1], Weights(**files), CPU)["summary"]["fvd"] > 0.1
    with pytest.raises(FirstFrameError, match="10 frames"):
        i3d_features(StandIn(), torch.zeros(4, 8, 8, 3, dtype=torch.uint8), CPU)
    assert c3d_probabilities(Classes(), torch.zeros(4, 8, 8, 3, dtype=torch.uint8), CPU).sum() == pytest.approx(1)


def test_no_torchscript(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "i3d.pt").write_text("no network")
    with pytest.raises(WeightsError, match="TorchScript"):
        evaluate(*folders, Weights(i3d=tmp_path / "i3d.pt"), CPU)


def test_the_command(folders: tuple[Path, Path], vision: Path, tmp_path: Path) -> None:
    made, true = folders
    command = ["evaluate", made, "--against", true, "-o", tmp_path / "out", "--clip", vision, "--device", "cpu"]
    result = CliRunner().invoke(app, [str(one) for one in command])
    assert result.exit_code == 0, result.output
    assert "FFF-SSIM: 1.000" in result.stdout and "FVD: not measured; I3D's weights were not given" in result.stdout
    page = (tmp_path / "out" / "evaluation.html").read_text("utf-8")
    for key in ("fff_ssim", "fff_clip", "clip_temp", "flow_score", "warping_error", "frechet_clip"):
        assert f'id="{key}"' in page and TERMS[key].label in page
    assert "DIS (OpenCV, medium)" in page and not re.search(r'(src|href)="http', page)
    rows = list(csv.DictReader((tmp_path / "out" / "evaluation.csv").open(encoding="utf-8")))
    assert [row["clip"] for row in rows][-1] == "all" and len(rows) == 4
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text("utf-8"))["clips"].keys() == {
        row["clip"] for row in rows[:-1]
    }
