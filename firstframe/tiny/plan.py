"""What ``firstframe train tiny`` does in the minutes that it is given: data, stages, export."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..training.data import LatentClips
from ..weights import load_metadata, save_state_dict
from .autoencoder import open_autoencoder, read_autoencoder
from .data import encode_scenes, open_latents
from .denoiser import exported_base
from .export import export
from .files import AUTOENCODER_FILE, BEGUN_WITH, PARTS, PLAN_FILE, weights_file
from .recipe import (
    Run,
    train_adapter,
    train_adapter_whole,
    train_base,
    train_look,
    train_retention,
    train_stem,
    train_text,
)
from .scenes import Sources


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        train: does it.
        share: of the time.
        learning_rate: at its peak.
        batch_size: captions or clips in a batch on a CPU; a GPU takes GPU_BATCH times as many.
        shown: frames of each clip.
    """

    train: Callable[[Run], None]
    share: float
    learning_rate: float
    batch_size: int
    shown: int = 1


GPU_BATCH = 2
STAGES = {
    "text": Stage(lambda run: train_text(run, len(run.clips.latents)), 0.02, 1e-3, 32),
    "images": Stage(lambda run: train_base(run, "images"), 0.06, 1e-3, 64),
    "clips": Stage(lambda run: train_base(run, "clips"), 0.45, 1e-3, 16, 4),
    "whole": Stage(lambda run: train_base(run, "whole"), 0.17, 6e-4, 4, 16),
    "adapter": Stage(train_adapter, 0.12, 2e-3, 16, 4),
    "adapter_whole": Stage(train_adapter_whole, 0.08, 1e-3, 4, 16),
    "stem": Stage(train_stem, 0.02, 2e-3, 32, 2),
    "retention": Stage(train_retention, 0.08, 1e-3, 16, 4),
    "look": Stage(train_look, 0.02, 5e-4, 16, 4),
}

DATA_SHARE = 0.1
LOOK_SCENES = 64
MOST_SCENES = 24_000


@dataclass(frozen=True)
class TinyTraining:
    """A whole training of the tiny model, from nothing to weights.

    Attributes:
        folder: of everything; a training that was cut off there goes on.
        minutes: for data and stages together.
        device: that computes.
        sources: of photographs and cut-outs.
        autoencoder: its file, or the folder with the two published files of TAESD.
        begin_with: a folder of exported weights to go on from; None begins with random ones.
        say: told what is done.
    """

    folder: Path
    minutes: float
    device: torch.device
    sources: Sources
    autoencoder: Path
    begin_with: Path | None
    say: Callable[[str], None]

    def run(self) -> Path:
        """Do what is not done yet. Returns the folder of the exported weights."""
        self.folder.mkdir(parents=True, exist_ok=True)
        plan = self._plan()
        stages = {name: stage for name, stage in STAGES.items() if name not in plan["skipped"]}
        seconds = 60 * plan["minutes"] * (1 - DATA_SHARE) / sum(stage.share for stage in stages.values())
        self._announce(stages, seconds)
        left = {name: stage for name, stage in stages.items() if not self._file(name).exists()}
        share = sum(stage.share for stage in left.values())
        end = time.monotonic() + seconds * share + (0 if "scenes" in plan else 60 * plan["minutes"] * DATA_SHARE)
        scenes, dusk = self._data(plan)
        for name, stage in left.items():  # the later ones share what time is left
            until_end = max(0.0, end - time.monotonic())
            self._stage(name, stage, until_end * stage.share / share, dusk if name == "look" else scenes)
            share -= stage.share
        export(self.folder, self.folder / "weights")
        return self.folder / "weights"

    def _plan(self) -> dict[str, Any]:
        """What was settled when the training began."""
        file = self.folder / PLAN_FILE
        if not file.exists():
            save_state_dict(self.folder / AUTOENCODER_FILE, read_autoencoder(self.autoencoder), {})
            if self.begin_with is not None:
                self._begin_with(self.begin_with)
            plan = {
                "command": "firstframe train tiny",
                "minutes": self.minutes,
                "device": self.device.type,
                "begins_with": _story_of(self.begin_with) if self.begin_with else "random weights",
                "skipped": ["text", "images"] if self.begin_with else [],
                "photographs": [path.name for path in self.sources.photographs],
                "cutouts": len(self.sources.cutouts),
            }
            file.write_text(json.dumps(plan, indent=1), "utf-8")
        settled: dict[str, Any] = json.loads(file.read_text("utf-8"))
        return settled

    def _begin_with(self, weights: Path) -> None:
        """Leave a base where the first stage that trains looks for it, and the parts where theirs do."""
        for part in PARTS:
            target = weights_file(part, self.folder / BEGUN_WITH)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(weights_file(part, weights), target)
        (self.folder / "images").mkdir(exist_ok=True)
        exported_base(weights).save(self.folder / "images" / "final.safetensors")

    def _file(self, stage: str) -> Path:
        return self.folder / stage / "final.safetensors"

    def _announce(self, stages: dict[str, Stage], seconds: float) -> None:
        self.say(f"data: about {60 * self.minutes * DATA_SHARE:.0f} s")
        for name, stage in stages.items():
            done = " (done)" if self._file(name).exists() else ""
            self.say(f"{name}: about {seconds * stage.share:.0f} s{done}")
        end = time.localtime(time.time() + 60 * self.minutes)
        self.say(f"from the beginning to the end {self.minutes:g} minutes: begun now, at {time.strftime('%H:%M', end)}")

    def _data(self, plan: dict[str, Any]) -> tuple[LatentClips, LatentClips]:
        """Encode as many scenes as the time allows, and some in another look."""
        model = open_autoencoder(self.folder / AUTOENCODER_FILE).to(self.device, memory_format=torch.channels_last)
        folder = self.folder / "scenes"
        if "scenes" not in plan:
            seconds = 60 * plan["minutes"] * DATA_SHARE
            plan["scenes"] = encode_scenes(folder, MOST_SCENES, self.sources, model, seconds=seconds)
            (self.folder / PLAN_FILE).write_text(json.dumps(plan, indent=1), "utf-8")
        encode_scenes(folder, plan["scenes"], self.sources, model)
        encode_scenes(self.folder / "dusk", LOOK_SCENES, self.sources, model, at_dusk=True)
        return open_latents(folder, images=True).to(self.device), open_latents(self.folder / "dusk").to(self.device)

    def _stage(self, name: str, stage: Stage, seconds: float, clips: LatentClips) -> None:
        batch = stage.batch_size * (GPU_BATCH if self.device.type == "cuda" else 1)
        self.say(f"{time.strftime('%H:%M')} {name}: {seconds:.0f} s")
        stage.train(Run(self.folder, self.device, clips, seconds, stage.learning_rate, batch, stage.shown))


def _story_of(weights: Path) -> Any:
    """What the exported weights in a folder say of the run that made them."""
    return json.loads(load_metadata(weights_file("unet", weights)).get("firstframe.run", '"weights without a story"'))
