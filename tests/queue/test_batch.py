"""Jobs from a JSONL file, in one process: what is done is not done again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from firstframe.cli.app import app
from firstframe.clips.video import read_clip
from firstframe.errors import FirstFrameError
from firstframe.queue.batch.engines import here
from firstframe.queue.batch.jobs import read_jobs
from firstframe.queue.batch.run import run_batch
from firstframe.queue.batch.worker import Output
from firstframe.tiny.model import TinyModel

SMALL = {"frames": 3, "steps": 1, "width": 64, "height": 64, "cfg": 1.0}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, colour in (("red", "red"), ("blue", "blue")):
        Image.new("RGB", (32, 32), colour).save(tmp_path / f"{name}.png")
    return tmp_path


def written(folder: Path, *lines: dict[str, Any]) -> Path:
    path = folder / "jobs.jsonl"
    path.write_text("\n\n".join(json.dumps(line) for line in lines), "utf-8")
    return path


def line(image: str = "red.png", **options: Any) -> dict[str, Any]:
    return {"image": image, "prompt": "a red fish", **options}


def test_a_lines_options_take_the_place_of_common_ones(folder: Path) -> None:
    path = written(folder, line(), line(seed=5, steps=7), line("blue.png", prompt=["up", "down"], motion="subtle"))
    plain, own, two = read_jobs(path, None, SMALL)
    assert (plain.animation.steps, own.animation.steps, own.job.seed) == (1, 7, 5)
    assert two.animation.prompts == ("up", "down") and two.animation.settings.start_time == 0.7
    assert plain.job.name.startswith("red_p001_s0_") and two.job.name.startswith("blue_p005_s0_")


def test_equal_lines_are_one_job(folder: Path) -> None:
    assert len(read_jobs(written(folder, line(), line(), line(seed=1)), None, SMALL)) == 2


def test_a_jobs_identity_is_what_its_clip_depends_on(folder: Path) -> None:
    def id(**common: Any) -> str:
        return read_jobs(written(folder, line()), None, {**SMALL, **common})[0].job.id

    before = id()
    assert id() == before
    assert id(steps=2) != before
    Image.new("RGB", (32, 32), "green").save(folder / "red.png")
    assert id() != before


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (line(steps="many"), "line 1: steps"),
        (line(stepz=3), "no option 'stepz'"),
        (line(steps=0), "at least one step"),
        (line(width=100), "multiples of 8"),
        (line(motion="wild"), "motion must be one of subtle"),
        (line(prompt=[]), "prompt"),
        (line("gone.png"), "gone.png"),
        ({"prompt": "x"}, '"image"'),
    ],
)
def test_wrong_lines(folder: Path, wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(FirstFrameError, match=r"jobs\.jsonl, line 1: ") as refused:
        read_jobs(written(folder, wrong), None, SMALL)
    assert says in str(refused.value)


def test_no_json_and_no_jobs(folder: Path) -> None:
    (folder / "jobs.jsonl").write_text("\nnot json\n")
    with pytest.raises(FirstFrameError, match="line 2"):
        read_jobs(folder / "jobs.jsonl", None, {})
    (folder / "jobs.jsonl").write_text("\n")
    with pytest.raises(FirstFrameError, match="no jobs"):
        read_jobs(folder / "jobs.jsonl", None, {})


class Loader:
    """Gives a model, and counts how often it was asked."""

    def __init__(self, model: TinyModel) -> None:
        self.model, self.times = model, 0

    def __call__(self) -> TinyModel:
        self.times += 1
        return self.model


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(one) for one in (folder / "manifest.jsonl").read_text("utf-8").splitlines()]


def test_clips_a_manifest_and_nothing_twice(folder: Path, small_model: TinyModel) -> None:
    out, load = folder / "out", Loader(small_model)
    jobs = read_jobs(written(folder, line(seed=1), line("blue.png", seed=2)), None, SMALL)
    told: list[str] = []
    assert run_batch(jobs, load, Output(out), here, out / "manifest.jsonl", told.append) == 0
    assert load.times == 1, "one model for all jobs"
    done = [event for event in events(out) if event["event"] == "done"]
    assert [event["job"] for event in done] == [job.job.id for job in jobs]
    clip = read_clip(out / done[0]["files"][0]["file"])
    made_by = json.loads(clip.metadata["firstframe"])
    assert clip.frames.shape == (3, 64, 64, 3) and (made_by["job"], made_by["seed"]) == (jobs[0].job.id, 1)
    assert (out / "manifest.csv").read_text("utf-8").count("done") == 2
    again = run_batch(jobs, load, Output(out), here, out / "manifest.jsonl", told.append)
    assert again == 0 and load.times == 1 and told[-1] == "jobs: 2, of them done before: 2"


def test_a_clip_that_a_lost_worker_finished_counts(folder: Path, small_model: TinyModel) -> None:
    out, load = folder / "out", Loader(small_model)
    jobs = read_jobs(written(folder, line()), None, SMALL)
    run_batch(jobs, load, Output(out), here, out / "manifest.jsonl")
    before = next(out.glob("*.mp4")).stat().st_mtime_ns
    (out / "manifest.jsonl").unlink()
    assert run_batch(jobs, load, Output(out), here, out / "manifest.jsonl") == 0
    assert load.times == 1 and next(out.glob("*.mp4")).stat().st_mtime_ns == before
    assert events(out)[-1]["event"] == "done"


def test_a_job_that_fails_does_not_stop_the_others(folder: Path, small_model: TinyModel) -> None:
    (folder / "broken.png").write_text("no image")
    out = folder / "out"
    jobs = read_jobs(written(folder, line("broken.png"), line()), None, SMALL)
    assert run_batch(jobs, Loader(small_model), Output(out), here, out / "manifest.jsonl") == 1
    failed, done = events(out)[1:]
    assert (failed["event"], done["event"]) == ("failed", "done") and "broken.png" in failed["reason"]


@pytest.fixture
def run(small_model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("firstframe.tiny.model.load_tiny", lambda device: small_model)
    return lambda *arguments: CliRunner().invoke(app, ["batch", *map(str, arguments)])


def test_the_command_and_shares(folder: Path, run: Any) -> None:
    path, out = written(folder, line(seed=1), line(seed=2), line(seed=3)), folder / "out"
    small = [option for name, value in SMALL.items() for option in ("--set", f"{name}={value}")]
    shown = run(path, "-o", out, "--dry-run", *small)
    assert shown.exit_code == 0 and shown.stdout.count("to do") == 3 and not out.exists()
    first = run(path, "-o", out, "--shard", "1/2", *small, "--suffix", "gif")
    assert first.exit_code == 0 and "done: 2 of 2" in first.stdout
    rest = run(path, "-o", out, *small, "--suffix", "gif")
    assert "of them done before: 2" in rest.stdout and "done: 3 of 3" in rest.stdout
    assert len(list(out.glob("*.gif"))) == 3
    assert {file.name for file in out.glob("*.jsonl")} == {"manifest.jsonl", "manifest.1-of-2.jsonl"}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--set", "steps"], "option=value"),
        (["--vae", "x.safetensors"], "needs --checkpoint"),
        (["--lora", "x.safetensors:strong", "--checkpoint", "y.safetensors"], "--lora"),
        (["--checkpoint", "gone.safetensors"], "gone.safetensors"),
        (["--shard", "3/2"], "--shard"),
    ],
)
def test_wrong_options(folder: Path, run: Any, options: list[str], says: str) -> None:
    result = run(written(folder, line()), "-o", folder / "out", *options)
    assert result.exit_code == 1 and says in result.stderr
