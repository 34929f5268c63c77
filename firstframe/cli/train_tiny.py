"""``firstframe train tiny``: the model that ships, from nothing to its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Device, resolve_device

app = typer.Typer(invoke_without_command=True)


@app.callback()
def tiny(
    minutes: Annotated[float, typer.Option(help="For data and training together.", min=1)] = 480,
    folder: Annotated[Path, typer.Option(help="Of scenes, checkpoints, logs and weights.")] = Path("runs/tiny"),
    images: Annotated[
        Path | None,
        typer.Option(help="Where Debian packages with photographs and cut-outs are unpacked (docs/training.md)."),
    ] = None,
    autoencoder: Annotated[
        Path | None,
        typer.Option(help="Its file, or a folder with taesd_encoder.safetensors and taesd_decoder.safetensors."),
    ] = None,
    begin_with: Annotated[
        Path | None,
        typer.Option("--from", help="Begin with the weights in this folder in place of random ones."),
    ] = None,
    scenes: Annotated[int, typer.Option(help="Held-out scenes that the result is measured on.")] = 16,
    device: Device = "",
) -> None:
    """Train the tiny model: render and encode scenes, train every stage, export and measure.

    Run it again in the same folder to go on where it was cut off.
    """
    from ..bindings.diffusers import SamplingSettings
    from ..experiments.catalogue import comparison
    from ..experiments.experiment import Setup
    from ..experiments.run import measure
    from ..tiny.config import GUIDANCE, NUM_FRAMES
    from ..tiny.files import weights_file
    from ..tiny.model import load_tiny
    from ..tiny.plan import TinyTraining
    from ..tiny.scenes import BUILT_IN, sources_in

    sources = BUILT_IN if images is None else sources_in(images)
    file = autoencoder or weights_file("autoencoder")
    training = TinyTraining(folder, minutes, resolve_device(device), sources, file, begin_with, typer.echo)
    weights = training.run()
    setup = Setup(scenes, 0, SamplingSettings(NUM_FRAMES, 10, GUIDANCE, 0, scale_blur=True))
    measure(comparison(retention=True), load_tiny(training.device, weights), setup, folder / "report", tell=typer.echo)
    typer.echo(f"{(folder / 'report' / 'report.md').read_text('utf-8')}\n{weights}")
