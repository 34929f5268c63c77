from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from firstframe.cli.app import app
from firstframe.queue.manifest import Manifest
from firstframe.queue.plan import Inputs, make_jobs, read_images
from firstframe.queue.workflow import prompt_input, read_workflow, seed_inputs, with_image_input

QUICKSTART = Path(__file__).parents[2] / "workflows" / "api" / "quickstart.json"


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Any]:
    for color in ("red", "blue"):
        (tmp_path / f"{color}.png").write_bytes(color.encode())
    (tmp_path / "prompts.txt").write_text("a fish\na star\n", "utf-8")
    matrix = ["--images", str(tmp_path), "--prompts", str(tmp_path / "prompts.txt"), "--seeds", "1-3"]
    options = ["-o", str(tmp_path / "out"), *matrix]
    return lambda *more: CliRunner().invoke(app, ["queue", str(QUICKSTART), *options, *more])


def listed(result: Any) -> list[str]:
    assert result.exit_code == 0, result.output
    return [line.split()[2] for line in result.stdout.splitlines() if line.startswith("to do")]


def test_a_dry_run_lists_every_job_and_makes_nothing(run: Callable[..., Any], tmp_path: Path) -> None:
    names = listed(run("--dry-run"))
    starts = {name.rsplit("_", 1)[0] for name in names}
    assert starts == {f"{c}_p00{p}_s{s}" for c in ("red", "blue") for p in (1, 2) for s in (1, 2, 3)}
    assert len(names) == 12 and not (tmp_path / "out").exists()


def test_prompts_on_the_command_line_come_first(run: Callable[..., Any]) -> None:
    result = run("--dry-run", "--prompt", "a heart", "--seed", "4")
    names = listed(result)
    assert len(names) == 2 * 3 and {name.split("_")[1] for name in names} == {"p001", "p002", "p003"}
    assert {line.split(maxsplit=3)[3] for line in result.stdout.splitlines()} == {"a heart", "a fish", "a star"}


def test_a_dry_run_knows_what_is_done(run: Callable[..., Any], tmp_path: Path) -> None:
    name = listed(run("--dry-run"))[0]
    with Manifest(tmp_path / "out" / "manifest.jsonl") as manifest:
        manifest.add("sent", job="0" * 64, prompt_id="x", server="s")
    assert len(listed(run("--dry-run"))) == 12
    graph, place = with_image_input(read_workflow(QUICKSTART), None)
    inputs = Inputs(place, prompt_input(graph, None), tuple(seed_inputs(graph, [])))
    job = make_jobs(graph, inputs, read_images(tmp_path), ["a fish", "a star"], [1, 2, 3])[0]
    assert job.name == name
    with Manifest(tmp_path / "out" / "manifest.jsonl") as manifest:
        manifest.add("done", job=job.id, files=[])
    assert name not in listed(run("--dry-run"))


def test_shards_share_out_all_jobs(run: Callable[..., Any]) -> None:
    parts = [listed(run("--dry-run", "--shard", f"{number}/5")) for number in range(1, 6)]
    assert sorted(name for part in parts for name in part) == sorted(listed(run("--dry-run")))
    assert {len(part) for part in parts} == {2, 3}


def test_settings_make_other_jobs(run: Callable[..., Any]) -> None:
    assert not set(listed(run("--dry-run"))) & set(listed(run("--dry-run", "--set", "KSampler.steps=3")))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--set", "KSampler.steps"], "node.input=value"),
        (["--set", "CLIPTextEncode.text=x"], "names 2 nodes"),
        (["--prompt-input", "3.words"], "no input 'words'"),
        (["--seeds", "x"], "--seeds"),
        (["--server", "http://"], "no address"),
        (["--server", "http://[::1"], "no address"),
        (["--server", "127.0.0.1:99999"], "no address"),
        (["--server", "file:///etc/passwd"], "no address"),
        (["--server", "127.0.0.1:9", "--retries", "1"], "no server answers: http://127.0.0.1:9"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(run: Callable[..., Any], options: list[str], told: str) -> None:
    result = run(*options)
    assert result.exit_code == 1 and told in result.stderr
    assert len([line for line in result.stderr.splitlines() if line.startswith("firstframe: ")]) == 1


def test_two_at_once_in_one_folder_are_refused(run: Callable[..., Any], tmp_path: Path) -> None:
    with Manifest(tmp_path / "out" / "manifest.jsonl"):
        assert "another firstframe queue" in run().stderr


def test_every_option_is_in_the_guide() -> None:
    result = CliRunner().invoke(app, ["queue", "--help"], env={"COLUMNS": "300", "TERM": "dumb"})
    guide = (Path(__file__).parents[2] / "docs" / "queue.md").read_text("utf-8")
    options = {word for word in re.split(r"[\s,]", result.output) if word.startswith("--")} - {"--help"}
    assert options >= {"--server", "--set", "--shard", "--dry-run"}
    assert not {option for option in options if option not in guide}


def test_what_an_earlier_crash_left(run: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    old, new = out / ".firstframe-old.mp4.part", out / ".firstframe-new.mp4.part"
    for part in (old, new):
        part.write_bytes(b"half")
    os.utime(old, (0, 0))
    (out / "manifest.jsonl").write_bytes(b"damaged\n")
    result = run("--server", "127.0.0.1:9", "--retries", "1")
    assert "line 1 is damaged" in result.stdout
    assert not old.exists() and new.exists()
