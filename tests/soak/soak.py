"""Keeps real ComfyUI servers busy for hours: cancels, bad jobs, disconnects, unloaded models, kills.

    make soak JOBS=1000 KILLS=20 COMFYUI_PATH=~/comfy/ComfyUI

After each job the server's memory, open files and threads are counted, and after each start its output folder is
looked at: no file is empty or unfinished under its final name. Ends with 1 where something is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "host")]

import websocket  # noqa: E402
from harness import Graph, Server, find_node, quickstart, running_server  # noqa: E402

MOST_GROWTH = 1.25
WARM_UP = 10
SECONDS = 300


def graph_of(seed: int) -> Graph:
    """A clip of 4 frames in one or two steps."""
    graph = quickstart(seed=seed, steps=1 + seed % 2)
    find_node(graph, "FirstFrameSimilarityPrior")["inputs"]["num_frames"] = 4
    find_node(graph, "FirstFrameEncodeReference")["inputs"].update(width=64, height=64)
    return graph


def good(server: Server, seed: int) -> str:
    outcome = server.run(graph_of(seed))
    assert outcome.event == "execution_success", outcome.data
    assert server.output_file(outcome).stat().st_size > 0
    return "done"


def bad(server: Server, seed: int) -> str:
    """With a number of frames that the motion module has no positions for, or a strength of NaN."""
    graph = graph_of(seed)
    if seed % 2:
        find_node(graph, "FirstFrameSimilarityPrior")["inputs"]["num_frames"] = 17
    else:
        find_node(graph, "FirstFrameApplyAdapter")["inputs"]["strength"] = float("nan")
    outcome = server.run(graph)
    assert outcome.event == "execution_error", outcome.event
    assert outcome.data["exception_type"].rpartition(".")[2] in ("FramesError", "FirstFrameError"), outcome.data
    return "refused"


def cancelled(server: Server, seed: int) -> str:
    def cancel(event: str, data: dict[str, Any]) -> None:
        if event == "executing" and data.get("node"):
            server.interrupt()

    outcome = server.run(graph_of(seed), cancel)
    assert outcome.event in ("execution_interrupted", "execution_success"), outcome.data
    return "cancelled"


def disconnected(server: Server, seed: int) -> str:
    """Whoever queued the job goes away."""
    events = websocket.create_connection(f"ws://{server.address}/ws?clientId={server.client}", timeout=SECONDS)
    queued = server.post("prompt", {"prompt": graph_of(seed), "client_id": server.client})
    events.close()
    end = time.monotonic() + SECONDS
    while not (entry := server.get(f"history/{queued['prompt_id']}")):
        assert time.monotonic() < end, "the job does not end"
        time.sleep(0.1)
    assert entry[queued["prompt_id"]]["status"]["status_str"] == "success"
    return "done without us"


def unloaded(server: Server, seed: int) -> str:
    """Models are unloaded before the job."""
    with suppress(ValueError):  # the answer has no body
        server.post("free", {"unload_models": True, "free_memory": True})
    return good(server, seed)


JOBS: dict[Callable[[Server, int], str], int] = {good: 10, bad: 4, cancelled: 3, disconnected: 2, unloaded: 1}


@dataclass
class Soak:
    """What was counted."""

    outcomes: Counter[str] = field(default_factory=Counter)
    measured: list[dict[str, int]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def life(self, base: Path, dice: random.Random, jobs: int, killed: bool) -> None:
        """One server from its start to its end, which may be a kill within a job."""
        with running_server(Path(os.environ["COMFYUI_PATH"]), base) as server:
            first = len(self.measured)
            for _ in range(jobs):
                kind = dice.choices(list(JOBS), list(JOBS.values()))[0]
                seed = dice.randrange(10**6)
                try:
                    self.outcomes[kind(server, seed)] += 1
                except Exception as error:
                    self.wrong.append(f"{kind.__name__} {seed}: {error!r:.500}")
                self.measured.append(use_of(server.process.pid))
            if killed:
                server.post("prompt", {"prompt": graph_of(dice.randrange(10**6)), "client_id": server.client})
                time.sleep(dice.uniform(0, 2))
                server.process.kill()
            self.check_growth(self.measured[first:])
        self.check_files(base)

    def check_growth(self, uses: list[dict[str, int]]) -> None:
        """The least of the last uses against those after the first jobs, which load models.

        The least, because connections that are about to be closed count as open files.
        """
        if len(uses) < 3 * WARM_UP:
            return
        for name in uses[0]:
            before, after = (min(use[name] for use in part) for part in (uses[WARM_UP : 2 * WARM_UP], uses[-WARM_UP:]))
            if after > MOST_GROWTH * before:
                self.wrong.append(f"{name} grew from {before} to {after}")

    def check_files(self, base: Path) -> None:
        for file in (base / "output").rglob("*"):
            if file.is_file() and not file.name.startswith(".firstframe-") and file.stat().st_size == 0:
                self.wrong.append(f"{file} is empty")


def use_of(pid: int) -> dict[str, int]:
    """Memory in MiB, open files and threads of a process (Linux)."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines())
    files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return {"MiB": int(status["VmRSS"].split()[0]) // 1024, "files": files, "threads": int(status["Threads"])}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("soak.json"))
    return parser.parse_args()


def main() -> int:
    options, soak = parse(), Soak()
    dice, lives = random.Random(options.seed), options.kills + 1
    with tempfile.TemporaryDirectory(prefix="firstframe-soak-") as folder:
        for life in range(lives):
            jobs = options.jobs * (life + 1) // lives - options.jobs * life // lives
            soak.life(Path(folder) / str(life), dice, jobs, killed=life < options.kills)
            done = f"{len(soak.measured)} jobs, {min(life + 1, options.kills)} kills"
            print(f"{done}, {dict(soak.outcomes)}, {soak.measured[-1]}", flush=True)
    report = {"outcomes": soak.outcomes, "kills": options.kills, "wrong": soak.wrong, "measured": soak.measured}
    options.out.write_text(json.dumps(report) + "\n", "utf-8")
    print("\n".join(soak.wrong) or "nothing was wrong")
    return int(bool(soak.wrong))


if __name__ == "__main__":
    sys.exit(main())
