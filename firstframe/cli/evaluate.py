"""``firstframe evaluate``: clips of any origin against their images or against true clips."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Device, resolve_device

ClipWeights = Annotated[
    Path | None,
    typer.Option(help="CLIP's image encoder in transformers' names, for FFF-CLIP and CLIPTemp.", metavar="FILE"),
]
RaftWeights = Annotated[
    Path | None,
    typer.Option(help="torchvision's RAFT, for FlowScore and WarpingError. Without it, DIS is used.", metavar="FILE"),
]
I3dWeights = Annotated[
    Path | None,
    typer.Option(
        help="I3D in TorchScript (i3d_torchscript.pt), for FVD. The references must be clips.", metavar="FILE"
    ),
]
C3dWeights = Annotated[Path | None, typer.Option(help="C3D in TorchScript (c3d_ucf101.pt), for IS.", metavar="FILE")]


def evaluate(
    clips: Annotated[Path, typer.Argument(help="A folder of clips.")],
    against: Annotated[Path, typer.Option(help="A folder of images or true clips, with the names of the clips.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the table and the page.")] = Path("evaluation"),
    clip: ClipWeights = None,
    raft: RaftWeights = None,
    i3d: I3dWeights = None,
    c3d: C3dWeights = None,
    device: Device = "",
) -> None:
    """Measure clips: likeness to the image, motion, flicker, and distances to true clips. Nothing is downloaded."""
    from tqdm.auto import tqdm

    from ..experiments.evaluation.measure import TERMS
    from ..experiments.evaluation.run import Weights, evaluate, write_evaluation

    with tqdm(desc="clips") as bar:

        def tell(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        results = evaluate(clips, against, Weights(clip, raft, i3d, c3d), resolve_device(device), tell)
    page = write_evaluation(out, results, f"{clips.name} against {against.name}.")
    for key, value in results["summary"].items():
        typer.echo(f"{TERMS[key].label}: {value:.{TERMS[key].digits}f}")
    for name, reason in results["left_out"].items():
        typer.echo(f"{name}: not measured; {reason}")
    typer.echo(page)
