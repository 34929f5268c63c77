from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch.nn import functional
from typer.testing import CliRunner

from firstframe.cli.app import app
from firstframe.clips.reference import prepare_image
from firstframe.clips.video import check_place, read_clip
from firstframe.errors import FirstFrameError
from firstframe.sampling.prior import MOTION

FAST = ["--frames", "3", "--steps", "2", "--width", "64", "--height", "48"]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    coarse = torch.rand(1, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    smooth = functional.interpolate(coarse, (60, 90), mode="bicubic").clamp(0, 1)[0].movedim(0, -1)
    Image.fromarray((smooth * 255).byte().numpy()).save(tmp_path / "image.png")
    return tmp_path / "image.png"


@pytest.fixture
def run(small_model, monkeypatch):
    monkeypatch.setattr("firstframe.tiny.model.load_tiny", lambda device: small_model)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def animated(run, image: Path, name: str, *options: str) -> torch.Tensor:
    result = run("animate", image, "--prompt", "a red fish", "-o", image.parent / name, *FAST, *options)
    assert result.exit_code == 0, result.output
    return read_clip(image.parent / name).frames


def test_animate(run, image):
    out = image.parent / "new" / "clip.mp4"
    result = run("animate", image, "--prompt", "a red fish", "-o", out, "--seed", "7", "--fps", "5", *FAST)
    sheet = out.with_name("clip_frames.png")
    assert result.exit_code == 0 and result.stdout.split() == [str(out), str(sheet)]
    clip = read_clip(out)
    assert clip.frames.shape == (3, 48, 64, 3) and clip.fps == 5
    assert Image.open(sheet).size == (3 * 64 + 2 * 2, 48)
    made_by = json.loads(clip.metadata["firstframe"])
    assert (made_by["prompts"], made_by["seed"], made_by["num_frames"]) == (["a red fish"], 7, 3)


@pytest.mark.parametrize(("fps", "name"), [("0", "clip.mp4"), ("nan", "clip.mp4"), ("8", "image.png/clip.mp4")])
def test_what_cannot_be_written_is_refused_before_sampling(run, image, monkeypatch, fps, name):
    monkeypatch.delattr("firstframe.tiny.model.load_tiny")
    result = run("animate", image, "--prompt", "a red fish", "-o", image.parent / name, "--fps", fps, *FAST)
    assert result.exit_code == 1 and (f"got {float(fps)}" in result.stderr or "is a file" in result.stderr)
    assert list(image.parent.iterdir()) == [image]


def test_a_webp_and_a_folder_of_png(run, image):
    assert animated(run, image, "clip.webp").shape == (3, 48, 64, 3)
    assert animated(run, image, "frames").shape == (3, 48, 64, 3)
    again = run("animate", image, "--prompt", "a red fish", "-o", image.parent / "frames", *FAST)
    assert again.exit_code == 1 and "is there already" in again.stderr


def test_it_starts_with_the_image(run, image):
    frames = animated(run, image, "clip.mp4", "--no-exact").float() / 255
    shrunk = functional.avg_pool2d(prepare_image(image, 64, 48), 8)
    blocks = functional.interpolate(shrunk, scale_factor=8)[0].movedim(0, -1)
    assert (frames[0] - blocks).abs().mean() < 0.03
    assert (frames[1] - blocks).abs().mean() > 0.1


def test_its_first_frame_is_the_image(run, image):
    prepared = prepare_image(image, 64, 48)[0].movedim(0, -1)
    frames = animated(run, image, "clip")
    assert torch.equal(frames[0], (prepared * 255).round().byte())
    assert not torch.equal(animated(run, image, "decoded", "--no-exact")[0], frames[0])


def test_an_amount_of_motion_stands_for_two_numbers(run, image):
    named = animated(run, image, "named.mp4", "--motion", "subtle")
    numbers = animated(run, image, "numbers.mp4", "--start", "0.7", "--keep", "1")
    assert torch.equal(named, numbers)


def test_the_help_says_what_an_amount_of_motion_sets(run):
    shown = " ".join(run("animate", "--help").output.replace("│", " ").split())
    for name, knobs in MOTION.items():
        assert f"{name}: {knobs.start_time:g}, {knobs.keep_probability:g}." in shown


def test_the_retention_branch(run, image):
    both = animated(run, image, "both", "--retention")
    alone = animated(run, image, "alone", "--retention", "--no-adapter")
    adapter = animated(run, image, "adapter")
    assert torch.equal(both[0], adapter[0]) and not torch.equal(both, adapter)
    assert not torch.equal(alone[0], adapter[0])  # no frame is held: it is the branch's own
    assert torch.equal(adapter, animated(run, image, "off", "--retention", "--retention-strength", "0"))


def test_dual_guidance(run, image):
    usual = animated(run, image, "usual.gif", "--cfg", "3")
    assert torch.equal(usual, animated(run, image, "text.gif", "--text-scale", "3"))
    stronger = animated(run, image, "image.gif", "--cfg", "3", "--image-scale", "2")
    assert not torch.equal(usual, stronger)
    assert torch.equal(stronger, animated(run, image, "same.gif", "--image-scale", "2", "--text-scale", "3"))


def test_one_prompt_for_each_clip(run, image):
    first, out = animated(run, image, "first.gif"), image.parent / "two.gif"
    assert run("animate", image, "--prompt", "a red fish", "--prompt", "up", "-o", out, *FAST).exit_code == 0
    two = read_clip(out).frames
    assert two.shape == (5, 48, 64, 3)
    sheets = [Image.open(image.parent / f"{name}_frames.png") for name in ("first", "two")]
    assert sheets[0].tobytes() == sheets[1].crop((0, 0, *sheets[0].size)).tobytes() and len(first) == 3
    same = animated(run, image, "repeated.gif", "--clips", "3")
    assert len(same) == 7


def test_clips_that_overlap(run, image):
    first = animated(run, image, "first.gif")
    more = animated(run, image, "more.gif", "--clips", "3", "--overlap", "2")
    assert len(more) == 3 + 1 + 1
    sheets = [Image.open(image.parent / f"{name}_frames.png") for name in ("first", "more")]
    assert sheets[0].crop((0, 0, 64, 48)).tobytes() == sheets[1].crop((0, 0, 64, 48)).tobytes() and len(first) == 3


def test_what_the_options_change(run, image):
    frames = animated(run, image, "a.gif")
    assert torch.equal(frames, animated(run, image, "same.gif"))
    without = animated(run, image, "without.gif", "--no-adapter")
    assert torch.equal(without, animated(run, image, "zero.gif", "--strength", "0"))
    for option in (["--seed", "1"], ["--cfg", "1"], ["--keep", "1"], ["--start", "0.5"], ["--color-match"]):
        assert not torch.equal(frames, animated(run, image, "other.gif", *option)), option
    assert not torch.equal(frames, without)


def one_line(result: Any) -> str:
    assert result.exit_code == 1
    line = result.stderr.splitlines()[-1]
    assert line.startswith("firstframe: ") and isinstance(result.exception, SystemExit)
    return line


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--width", "100"], "100x48"),
        (["--frames", "17"], "16"),
        (["--frames", "1"], "two frames"),
        (["--steps", "0"], "step"),
        (["--start", "0"], "start_time"),
        (["--keep", "2"], "keep_probability"),
        (["-o", "clip.avi"], "clip.avi"),
        (["--prompt", "y", "--clips", "3"], "3 clips"),
        (["--clips", "0"], "0 clips"),
        (["--clips", "2", "--among-last", "3"], "among_last"),
    ],
)
def test_wrong_options(run, image, options, says):
    result = run("animate", image, "--prompt", "x", "-o", image.parent / "clip.mp4", *FAST, *options)
    assert says in one_line(result)
    assert list(image.parent.iterdir()) == [image]


def test_no_image(run, tmp_path):
    (tmp_path / "text.png").write_text("not an image")
    for name in ("missing.png", "text.png"):
        result = run("animate", tmp_path / name, "--prompt", "x", "-o", tmp_path / "clip.mp4")
        assert name in one_line(result)


def test_measure(run, tmp_path, monkeypatch):
    from firstframe.experiments.catalogue import PRIOR_REPORT

    few = replace(PRIOR_REPORT, experiments=[replace(one, cases=one.cases[:2]) for one in PRIOR_REPORT.experiments])
    monkeypatch.setattr("firstframe.experiments.catalogue.PRIOR_REPORT", few)
    result = run("measure", "tiny", "--scenes", "1", "--steps", "1", "--report", tmp_path / "report")
    assert result.exit_code == 0, result.output
    assert "7 clips (methods)" in result.output and "| adapter | " in result.output
    shown = {"methods.gif", "methods.png", "methods_frames.png"}
    made = {"clips", "kept", "report.html", "report.json", "report.md", *shown}
    assert {file.name for file in (tmp_path / "report").iterdir()} == made
    result = run("measure", "prior", "--scenes", "1", "--steps", "1", "-o", tmp_path / "prior")
    assert result.exit_code == 0, result.output
    assert {"prior.json", "prior.md", "report.html"} <= {file.name for file in (tmp_path / "prior").iterdir()}
    result = run("measure", "tiny", "--scenes", "1", "--steps", "1", "--retention", "--out", tmp_path / "all")
    assert result.exit_code == 0, result.output
    assert "adapter+retention" in (tmp_path / "all" / "report.md").read_text()


def test_measure_claims(run, tmp_path, monkeypatch):
    monkeypatch.setattr("firstframe.experiments.run.with_look", lambda model: model)
    few = ("measure", "claims", "--scenes", "1", "--pictures", "1", "--steps", "1", "--report", tmp_path)
    result = run(*few, "--only", "image_scale", "--only", "other_look")
    assert result.exit_code == 0, result.output
    assert {"claims.json", "claims.md", "image_scale.png"} <= {file.name for file in tmp_path.iterdir()}
    assert "summary" in one_line(run(*few, "--only", "summary"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--fps", "0"], "fps must be from 0.01 to 500, got 0"),
        (["--fps", "nan"], "fps must be from 0.01 to 500, got nan"),
        (["--cfg", "nan"], "cfg must be a finite number, got nan"),
        (["--strength", "nan"], "strength of adapter must be a finite number, got nan"),
        (["--retention", "--retention-strength", "inf"], "strength of retention must be a finite number, got inf"),
        (["--image-scale", "nan"], "image scale must be a finite number, got nan"),
        (["--text-scale=-inf"], "text scale must be a finite number, got -inf"),
        (["--keep", "nan"], "keep_probability must be from 0 to 1, got nan"),
        (["--start", "nan"], "start_time must be above 0 and at most 1, got nan"),
        (["--seed", str(2**64)], "seed must be from 0 to 2^64 - 1"),
        (["--seed", "-1"], "seed must be from 0 to 2^64 - 1"),
        (["--seed", str(2**64 - 1), "--clips", "2"], "seed must be from 0 to 2^64 - 1"),
        (["--clips", "2", "--among-last", "0"], "among_last must be from 1 to 2"),
        (["--clips", "2", "--overlap", "3"], "the overlap must be from 1 to 2"),
        (["--clips", "2", "--overlap", "-1"], "the overlap must be from 1 to 2"),
    ],
)
def test_numbers_are_checked_before_anything_is_sampled(run, image, monkeypatch, options, says):
    monkeypatch.setattr("firstframe.bindings.diffusers.animate.sample_latents", lambda *_, **__: pytest.fail("sampled"))
    result = run("animate", image, "--prompt", "x", "-o", image.parent / "clip.mp4", *FAST, *options)
    assert says in one_line(result)
    assert list(image.parent.iterdir()) == [image]


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_sampled(run, image, monkeypatch):
    monkeypatch.setattr("firstframe.bindings.diffusers.pipeline.sample_clip", lambda *_, **__: pytest.fail("sampled"))
    (image.parent / "folder.mp4").mkdir()
    (image.parent / "clip_frames.png").mkdir()
    says = {
        image / "x.mp4": "is a file, not a folder",
        image.parent / "folder.mp4": "it is a folder",
        image.parent / "clip.mp4": "clip_frames.png': it is a folder",
        image.parent / ("x" * 300 + ".mp4"): "File name too long",
    }
    for out, reason in says.items():
        assert reason in one_line(run("animate", image, "--prompt", "x", "-o", out, *FAST))


def test_a_folder_without_permission(monkeypatch, tmp_path):
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)
    with pytest.raises(FirstFrameError, match="no permission to write"):
        check_place(tmp_path / "new" / "clip.mp4")
    check_place(tmp_path.parent / "clip.mp4")


def test_words_that_the_model_does_not_know_are_named(run, image):
    out = image.parent / "clip.gif"
    prompt = "a ladybird walks along the stem, a red fish"
    result = run("animate", image, "--prompt", prompt, "-o", out, *FAST)
    assert "does not know, and ignores: ladybird, walks, along, the, stem. It knows: a, blue, camera, " in result.stderr
    assert "not know" not in run("animate", image, "--prompt", "a red fish", "-o", out, *FAST).stderr


def test_a_size_that_takes_long_is_said(run, image):
    sizes = [*FAST, "--width", "256", "--height", "256", "--steps", "1"]
    result = run("animate", image, "--prompt", "a red fish", "-o", image.parent / "clip.gif", *sizes)
    assert "256 x 256 is 4 times the pixels" in result.stderr


def test_out_is_report(run, tmp_path, monkeypatch):
    result = run("measure", "prior", "--scenes", "1", "--steps", "1", "--out", tmp_path / "prior")
    assert result.exit_code == 0 and (tmp_path / "prior" / "report.html").exists()
