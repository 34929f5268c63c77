"""Ctrl-C ends every long command within two seconds, with exit code 130, no traceback and no half file."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
sys.path.insert(0, str(Path(__file__).parent))
from material import write_clips, write_models
from test_train import CONFIG

ROOT = Path(__file__).parents[2]
SECONDS = 2.0
"""Of the processor: whatever else the machine does only adds to the time on the clock."""
RUN = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
from firstframe.cli.app import app
try:
    app()
finally:  # Python's own end, with torch imported, takes another second or so
    print("processor seconds:", time.process_time(), flush=True)
"""
pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processor seconds are read in /proc")


@dataclass
class Command:
    """A command in a folder. Its work goes on once it says ``begun``, or once there is a file of that name."""

    arguments: list[str]
    begun: str
    prepare: Callable[[Path], object] = lambda folder: None
    leaves: tuple[str, ...] = ()


def write_jobs(folder: Path) -> None:
    job = {"image": "image.png", "prompt": "a red fish", "frames": 16, "steps": 500}
    (folder / "jobs.jsonl").write_text(json.dumps(job))


def write_training(folder: Path) -> None:
    write_models(folder)
    write_clips(folder / "clips", 2)
    (folder / "config.toml").write_text(CONFIG.replace("max_train_steps = 2", "max_train_steps = 100000"))


SILENT = socket.create_server(("127.0.0.1", 0))
"""Takes connections and never answers."""
QUICKSTART = str(ROOT / "workflows" / "api" / "quickstart.json")
QUEUE = ["queue", QUICKSTART, "--images", ".", "--prompt", "a red fish", "-o", "out", "--server"]
ANIMATE = ["animate", "image.png", "--prompt", "a red heart moves right", "--steps", "500"]
COMMANDS = {
    "animate": Command(ANIMATE, "| 1/500"),
    "batch": Command(["batch", "jobs.jsonl", "-o", "out"], "out/manifest.jsonl", write_jobs, ("out",)),
    "measure": Command(["measure", "tiny", "--scenes", "2", "--steps", "200", "-o", "out"], "clips (", leaves=("out",)),
    "train": Command(
        ["train", "adapter", "config.toml", "--device", "cpu"], "2/100000", write_training, ("run", "cache")
    ),
    "queue": Command([*QUEUE, f"127.0.0.1:{SILENT.getsockname()[1]}"], "out/manifest.jsonl", leaves=("out",)),
}


def processor_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("name", COMMANDS)
def test_ctrl_c(tmp_path: Path, name: str) -> None:
    command = COMMANDS[name]
    Image.new("RGB", (64, 64), "blue").save(tmp_path / "image.png")
    command.prepare(tmp_path)
    before = {file.name for file in tmp_path.iterdir()}
    log = tmp_path.with_suffix(".log")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, *command.arguments], cwd=tmp_path, env=environment, stdout=file, stderr=file
        )
    end = time.monotonic() + 120
    while not ((tmp_path / command.begun).exists() or command.begun in log.read_text("utf-8", "replace")):
        assert process.poll() is None and time.monotonic() < end, log.read_text("utf-8", "replace")
        time.sleep(0.02)
    pressed = processor_seconds(process.pid)
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 130, log.read_text("utf-8", "replace")
    said, _, ended = log.read_text("utf-8", "replace").rpartition("processor seconds:")
    assert "Traceback" not in said
    assert float(ended) - pressed < SECONDS
    assert {file.name for file in tmp_path.iterdir()} <= {*before, *command.leaves}
    assert not [file for file in tmp_path.rglob("*") if file.name.startswith(".firstframe-") or ".part" in file.name]
