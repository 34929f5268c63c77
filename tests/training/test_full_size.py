"""Stable Diffusion 1.5 at full size, on a CPU: each target for a few steps, killed in the middle and resumed.

Needs FIRSTFRAME_FULL_SIZE, a folder with the files of

    python tests/synthetic.py sd15-fp16 animatediff-v3 --to FOLDER

20 GB of memory, 25 GB of disk, and some minutes for each target.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from material import write_clips

ROOT = Path(__file__).parents[2]
FOLDER = os.environ.get("FIRSTFRAME_FULL_SIZE", "")
CONFIG = """
[model]
checkpoint = "{folder}/v1-5-pruned-emaonly-fp16.safetensors"
motion_module = "{folder}/v3_sd15_mm.ckpt"
[data]
held_out = 0.0
[[datasets]]
video_directory = "clips"
resolution = [64, 64]
target_frames = [8]
[train]
output_dir = "{name}"
max_train_steps = 4
save_every_n_steps = 2
log_every_n_steps = 1
mixed_precision = "bf16"
gradient_checkpointing = true
temporal = {temporal}
[samples]
every_n_steps = 0
"""
MOST_GB = 20

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FOLDER, reason="FIRSTFRAME_FULL_SIZE names no folder with files of full size"),
]


def lines(folder: Path) -> list[dict[str, float]]:
    file = folder / "log.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.mark.parametrize(("kind", "temporal"), [("adapter", "false"), ("retention", "false"), ("retention", "true")])
def test_a_killed_training_ends_as_one_that_was_not(tmp_path: Path, kind: str, temporal: str) -> None:
    write_clips(tmp_path / "clips", 3)

    def command(name: str, *options: str) -> subprocess.Popen[bytes]:
        file = tmp_path / f"{name}.toml"
        file.write_text(CONFIG.format(folder=Path(FOLDER).absolute(), name=name, temporal=temporal))
        arguments = ["-m", "firstframe.cli", "train", kind, str(file), "--device", "cpu", *options]
        return subprocess.Popen([sys.executable, *arguments], cwd=ROOT)

    assert command("whole").wait() == 0
    killed = command("killed")
    while len(lines(tmp_path / "killed")) < 3:
        assert killed.poll() is None
        time.sleep(0.1)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert command("killed", "--resume").wait() == 0
    whole, resumed = (
        torch.load(tmp_path / name / "checkpoint.pt", weights_only=True, mmap=True) for name in ("whole", "killed")
    )
    assert whole["step"] == resumed["step"] == 4
    assert all(torch.equal(weight, resumed["weights"][name]) for name, weight in whole["weights"].items())
    assert max(line["memory_gb"] for line in lines(tmp_path / "whole")) < MOST_GB
    print(lines(tmp_path / "whole"))
