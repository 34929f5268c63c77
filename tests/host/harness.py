"""A real ComfyUI server on this machine, with a throw-away folder for models, inputs and outputs."""

from __future__ import annotations

import copy
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import websocket
from device import server_options
from PIL import Image
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 180
RUN_SECONDS = 600
STEPS = 4

TITLES = {
    "quickstart": "Animate an image, node by node",
    "retention": "Retention branch with the adapter",
    "one_image_many_actions": "One image, many actions",
    "long_clip": "Longer video, clip by clip",
    "context_windows": "Longer video, in windows",
    "strength_over_time": "Strength over time and frames",
    "first_and_last_frame": "First and last frame",
    "i2v_adapter_official": "I2V-Adapter as published",
    "community_models": "Real images with SD1.5",
    "sdxl": "Real images with SDXL",
    "controlnet": "ControlNet with the adapter",
    "animatediff_evolved": "AnimateDiff-Evolved with the adapter",
    "wan_dual_guidance": "Wan 2.1 with dual guidance",
}
"""The workflows as the template browser lists them (a file's name is its title), by their names in API format."""

START = "Animate an image (start here)"
"""The one that is a blueprint. ComfyUI's editor turns it into API format."""

Graph = dict[str, Any]
"""A workflow in API format: nodes by id."""


def workflow(name: str) -> Graph:
    """One of the workflows that ship (API format), with a few steps."""
    graph: Graph = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text("utf-8"))
    for node in graph.values():
        if "steps" in node["inputs"]:
            node["inputs"]["steps"] = STEPS
    return graph


def template(title: str) -> dict[str, Any]:
    """One of the workflows that ship, as the editor opens it."""
    graph: dict[str, Any] = json.loads((ROOT / "workflows" / f"{title}.json").read_text("utf-8"))
    return graph


def quickstart(**inputs: Any) -> Graph:
    """The quickstart graph (API format) with a few steps and other inputs of its sampler."""
    graph = workflow("quickstart")
    find_node(graph, "KSampler")["inputs"].update(inputs)
    return graph


def rerun(graph: Graph) -> Graph:
    """The same graph, written so that the host samples again with the model that it has, instead of remembering."""
    again = copy.deepcopy(graph)
    for node in again.values():
        if node["class_type"] == "CLIPTextEncode":
            node["inputs"]["text"] += " "
    return again


def find_node(graph: Graph, kind: str) -> dict[str, Any]:
    """The one node of a kind."""
    (found,) = [node for node in graph.values() if node["class_type"] == kind]
    return found


@dataclass
class Outcome:
    """How a queued graph ended: "execution_success", "execution_error", "execution_interrupted", or
    "refused" before it started. ``outputs`` is what each output node showed."""

    event: str
    data: dict[str, Any]
    outputs: dict[str, Any] = field(default_factory=dict)


@dataclass
class Server:
    """A running server, asked over HTTP and its websocket."""

    base: Path
    address: str
    process: subprocess.Popen[bytes]
    client: str = field(default_factory=lambda: uuid.uuid4().hex)

    def get(self, path: str) -> Any:
        """JSON from the server."""
        with urllib.request.urlopen(f"http://{self.address}/{path}") as response:
            return json.load(response)

    def post(self, path: str, body: Any) -> Any:
        """Send JSON; the server's JSON, also where it refuses (status 400)."""
        request = urllib.request.Request(f"http://{self.address}/{path}", json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request) as response:
                return json.loads(response.read() or "{}")
        except urllib.error.HTTPError as refused:
            return json.loads(refused.read())

    def run(self, graph: Graph, watch: Callable[[str, dict[str, Any]], None] = lambda *_: None) -> Outcome:
        """Queue a graph (API format) and wait for its end. ``watch`` sees every message on the way.

        A preview is a message "preview" with its "image", the bytes of a file, beside the server's metadata.
        """
        address = f"ws://{self.address}/ws?clientId={self.client}"
        events = websocket.create_connection(address, timeout=RUN_SECONDS)
        events.send(json.dumps({"type": "feature_flags", "data": {"supports_preview_metadata": True}}))
        try:
            body = {"prompt": graph, "client_id": self.client, "extra_data": {"extra_pnginfo": {"workflow": {}}}}
            queued = self.post("prompt", body)
            return self._wait(events, watch) if "prompt_id" in queued else Outcome("refused", queued)
        finally:
            events.close()

    def _wait(self, events: Any, watch: Callable[[str, dict[str, Any]], None]) -> Outcome:
        outputs = {}
        while True:
            message = events.recv()
            if isinstance(message, bytes):
                length = 8 + int.from_bytes(message[4:8], "big")
                watch("preview", {**json.loads(message[8:length]), "image": message[length:]})
                continue
            event = json.loads(message)
            kind, data = event["type"], event.get("data", {})
            watch(kind, data)
            if kind == "executed":
                outputs[data["node"]] = data["output"]
            if kind in ("execution_success", "execution_error", "execution_interrupted"):
                return Outcome(kind, data, outputs)

    def interrupt(self) -> None:
        """Cancel what is running."""
        self.post("interrupt", {})

    def output_file(self, outcome: Outcome) -> Path:
        """The one file that a graph saved."""
        (file,) = self.output_files(outcome)
        return file

    def output_files(self, outcome: Outcome) -> list[Path]:
        """All files that a graph saved, in order."""
        saved = [file for node in outcome.outputs.values() for file in node.get("images", [])]
        return [self.base / "output" / file["subfolder"] / file["filename"] for file in saved]


@contextmanager
def running_server(
    host: Path, base: Path, packs: Iterable[Path] = (), more_options: Iterable[str] = ()
) -> Iterator[Server]:
    """Start ``host`` with ``base`` as its base directory and this checkout as its only pack, or beside ``packs``."""
    folder = base / "custom_nodes"
    folder.mkdir(parents=True)
    (folder / "ComfyUI-FirstFrame").symlink_to(ROOT, target_is_directory=True)
    for pack in packs:
        (folder / pack.name).symlink_to(pack, target_is_directory=True)
    port = _free_port()
    options = [
        *server_options(),
        "--disable-auto-launch",
        "--disable-api-nodes",
        "--listen",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    folders = ["--base-directory", str(base), "--database-url", "sqlite:///:memory:"]
    log = base / "server.log"
    with log.open("w", encoding="utf-8") as sink:
        process = subprocess.Popen(
            [sys.executable, "main.py", *options, *folders, *more_options],
            cwd=host,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )
        server = Server(base, f"127.0.0.1:{port}", process)
        try:
            _wait_for_start(server, process, log)
            yield server
        finally:
            process.terminate()
            process.wait(30)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for_start(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        try:
            server.get("system_stats")
            return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError(f"ComfyUI did not start:\n{log.read_text('utf-8')[-4000:]}")


def saved_frames(server: Server, graph: Graph) -> Tensor:
    """The frames of a graph (F, H, W, 3) in 0..255, saved as images: a film's encoder makes much of little."""
    saver = find_node(graph, "FirstFrameSaveVideo")
    saver["class_type"] = "SaveImage"
    saver["inputs"] = {"images": saver["inputs"]["images"], "filename_prefix": "frames"}
    outcome = server.run(graph)
    assert outcome.event == "execution_success", outcome.data
    images = [np.asarray(Image.open(file)) for file in server.output_files(outcome)]
    return torch.from_numpy(np.stack(images)).float()
