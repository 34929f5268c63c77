"""Training an adapter or a branch in the graph, on ComfyUI's own training data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any, Literal

import comfy.model_management
import comfy.utils
import folder_paths
import torch
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io, ui
from PIL import Image, ImageDraw
from torch import Tensor

from ..firstframe.bindings.comfy import weights
from ..firstframe.weights import I2V_ADAPTER, RETENTION, save
from ..firstframe.weights.kinds import OwnKind
from . import folders
from .aliases import search_aliases
from .types import I2VAdapter, Retention

CATEGORY = "FirstFrame/train"
LossMap = io.Custom("LOSS_MAP")
Kind = Literal["adapter", "retention"]
KINDS: dict[str, OwnKind[Any]] = {"adapter": I2V_ADAPTER, "retention": RETENTION}


def _inputs(name: str) -> list[io.Input]:
    """What both nodes have in common, behind the data."""
    return [
        io.Int.Input("steps", default=1000, min=1, max=100000, tooltip="Optimiser steps, of one clip each."),
        io.Float.Input(
            "learning_rate",
            default=1e-4,
            min=1e-7,
            max=1.0,
            step=1e-7,
            tooltip="Learning rate of AdamW. 0.0001 in the papers.",
        ),
        io.Int.Input(
            "frames",
            default=16,
            min=2,
            max=32,
            tooltip="Frames in each step. From a longer clip, a different part is taken each time.",
        ),
        io.Float.Input(
            "drop_text",
            default=0.1,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="Share of the steps that train without the text, for guidance. Needs empty_text. 0 is none.",
        ),
        io.Boolean.Input(
            "gradient_checkpointing",
            default=True,
            tooltip="Compute activations twice instead of storing them: less memory, more time, the same result.",
        ),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=0xFFFFFFFF,
            control_after_generate=False,
            tooltip="Seed of all random draws.",
        ),
        io.String.Input(
            "file_name", default=name, tooltip="Name of the file in models/firstframe. No file is overwritten."
        ),
        io.Conditioning.Input("empty_text", optional=True, tooltip="An empty prompt, encoded: for drop_text."),
    ]


def _data() -> list[io.Input]:
    return [
        io.Model.Input(
            "model", tooltip="A Stable Diffusion 1.5 or SDXL model with a motion module applied. It stays as it is."
        ),
        io.Latent.Input(
            "latents", tooltip="From Make Training Dataset, given the frames of each clip (Get Video Components)."
        ),
        io.Conditioning.Input("conditioning", tooltip="From Make Training Dataset: the caption of each clip."),
    ]


class TrainAdapter(io.ComfyNode):
    """A new I2V adapter."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FirstFrameTrainAdapter",
            display_name="Train I2V Adapter",
            category=CATEGORY,
            **search_aliases("train video adapter", "fine-tune image to video"),
            description=(
                "Trains a new I2V adapter for a model on your own clips, and saves it. For long trainings, use "
                "firstframe train adapter, which goes on after an interruption."
            ),
            inputs=[*_data(), *_inputs("my_adapter")],
            outputs=[
                I2VAdapter.Output(display_name="I2V_ADAPTER"),
                LossMap.Output(display_name="loss", tooltip="For Plot Loss Graph."),
            ],
            is_input_list=True,
            is_output_node=True,
        )

    @classmethod
    def execute(cls, **inputs: Any) -> io.NodeOutput:
        return _train(cls, "adapter", inputs)


class TrainRetention(io.ComfyNode):
    """A new retention branch."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FirstFrameTrainRetention",
            display_name="Train Retention Branch",
            category=CATEGORY,
            **search_aliases("train DreamVideo", "fine-tune image to video"),
            description=(
                "Trains a new frame retention branch for a model on your own clips, and saves it. For long trainings, "
                "use firstframe train retention, which goes on after an interruption."
            ),
            inputs=[
                *_data(),
                io.Image.Input("images", tooltip="The frames of each clip, the same that Make Training Dataset gets."),
                *_inputs("my_branch"),
            ],
            outputs=[
                Retention.Output(display_name="RETENTION"),
                LossMap.Output(display_name="loss", tooltip="For Plot Loss Graph."),
            ],
            is_input_list=True,
            is_output_node=True,
        )

    @classmethod
    def execute(cls, **inputs: Any) -> io.NodeOutput:
        return _train(cls, "retention", inputs)


def _train(node: type[io.ComfyNode], kind: Kind, inputs: dict[str, Any]) -> io.NodeOutput:
    """The host gives every input as a list: of clips, or of one value."""
    from ..firstframe.bindings.comfy.training import frozen_base  # with it the pack takes a fifth longer to import
    from ..firstframe.training.comfy import Settings, as_clips, text_of, train_in_host

    model: ModelPatcher = inputs["model"][0]
    one = {name: values[0] for name, values in inputs.items() if values}
    names = ("steps", "learning_rate", "frames", "drop_text", "gradient_checkpointing", "seed")
    settings = Settings(*(one[name] for name in names))
    with torch.inference_mode(False):
        clips = as_clips(
            inputs["latents"], inputs["conditioning"], inputs.get("images", ()), model.model.process_latent_in
        )
        empty = text_of(one["empty_text"]) if "empty_text" in one else None
        part, losses = train_in_host(kind, frozen_base(model), clips, empty, settings, _report(settings.steps))
    told = {name: one[name] for name in names} | {"kind": kind, "clips": len(clips.latents), "last_loss": losses[-1]}
    file = _free_file(one["file_name"])
    save(KINDS[kind], file, part, {"firstframe.training": json.dumps(told)})
    plot = ui.PreviewImage(_plot(losses), cls=node)
    return io.NodeOutput(weights.load_in_host(KINDS[kind], file), {"loss": losses}, ui=plot)


def _report(steps: int) -> Any:
    bar = comfy.utils.ProgressBar(steps)

    def report(done: int, loss: float) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        bar.update_absolute(done, steps)

    return report


def _free_file(name: str) -> Path:
    """In models/firstframe; numbered where the name is taken."""
    folder = Path(folder_paths.get_folder_paths(folders.ADAPTERS)[0])
    folder.mkdir(parents=True, exist_ok=True)
    stem = Path(name).stem or "trained"
    names = (f"{stem}{'' if number == 1 else f'_{number}'}.safetensors" for number in count(1))
    return next(folder / name for name in names if not (folder / name).exists())


def _plot(losses: Sequence[float]) -> Tensor:
    """The loss over the steps, from 0, as an IMAGE."""
    width, height, highest = 512, 256, max(losses) or 1.0
    image = Image.new("RGB", (width, height), "white")
    points = [
        (width * step / max(1, len(losses) - 1), height * (1 - loss / highest)) for step, loss in enumerate(losses)
    ]
    draw = ImageDraw.Draw(image)
    draw.line(points, fill="blue", width=2)
    draw.text((4, 2), f"highest {highest:.4g}, last {losses[-1]:.4g}, {len(losses)} steps", fill="black")
    return torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).reshape(1, height, width, 3) / 255
