"""``firstframe weights …``: published weights, and what is in a file."""

from __future__ import annotations

from collections import Counter
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from ..errors import WeightsError, printable

if TYPE_CHECKING:
    from ..weights.hub.manifest import WeightSet
    from ..weights.inspect import Inspection
    from ..weights.layouts import Kind

app = typer.Typer(help="Published weights: what there is, getting it, checking it.", no_args_is_help=True)
INTERRUPTED = 130
Names = Annotated[list[str], typer.Argument(help="Names from `firstframe weights list`, of files or of bundles.")]
ModelsDir = Annotated[Path | None, typer.Option(help="ComfyUI's models folder; found by itself if not given.")]


@app.command("list")
def list_() -> None:
    """All published weight sets: name, size, whether it can be verified, and what it is; then the bundles."""
    from ..weights.hub.manifest import bundles, published

    for entry in published():
        typer.echo(f"{entry.id:30} {_size(entry):>9}  {_pin(entry):8}  {entry.role}: {entry.file}")
    typer.echo("\nbundles")
    for name, entries in bundles().items():
        typer.echo(f"{name:30} {', '.join(entry.id for entry in entries)}")


@app.command()
def show(id: Annotated[str, typer.Argument(help="A name from `firstframe weights list`.")]) -> None:
    """Everything that is known of one weight set, and how to get it."""
    from ..weights.hub.manifest import weight_set

    entry = weight_set(id)
    where = [f"{source.repo} {source.path} ({source.revision})" for source in entry.sources]
    facts = {
        "role": entry.role,
        "file": f"{entry.file} in models/{entry.folder}",
        "source": "\n         ".join(where),
        "bytes": "unknown" if entry.bytes is None else f"{entry.bytes:,}",
        "sha256": entry.sha256 or "unpinned: nobody states it",
        "licence": entry.licence,
        "layout": entry.layout or "not read by FirstFrame itself",
        "node": entry.node or "none",
        "notes": entry.notes,
        "bundles": ", ".join(entry.bundles) or "none",
    }
    for name, fact in facts.items():
        typer.echo(f"{name:8} {fact}")
    typer.echo(f"\nfirstframe weights fetch {entry.id}")


@app.command()
def fetch(names: Names, models_dir: ModelsDir = None) -> None:
    """Download weight sets into ComfyUI's folders and verify them. A fetch that was cut off goes on.

    Exit code 1 if one could not be fetched.
    """
    from ..weights.hub.fetch import fetch as download, remove_stale
    from ..weights.hub.folders import model_folders
    from ..weights.hub.manifest import named

    folders, entries, failed = model_folders(models_dir), named(names), 0
    remove_stale(entries, folders)
    for entry in entries:
        if not entry.pinned:
            typer.echo(f"{entry.id} is unpinned: nobody states its sha256, so that it cannot be verified", err=True)
        try:
            typer.echo(f"{download(entry, folders.target(entry.folder))}  ({_pin(entry)})")
        except WeightsError as error:
            failed += 1
            typer.echo(f"firstframe: {error}", err=True)
        except KeyboardInterrupt:
            typer.echo("stopped; the same command goes on", err=True)
            raise typer.Exit(INTERRUPTED) from None
    if failed:
        raise typer.Exit(1)


@app.command()
def verify(
    files: Annotated[list[Path] | None, typer.Argument(help="Files; all that are installed if none is given.")] = None,
    models_dir: ModelsDir = None,
) -> None:
    """Compare files with what was published: size and sha256. Exit code 1 if one differs or is missing."""
    from ..weights.hub.verify import verify as check

    verdicts: Counter[str] = Counter()
    for entry, path in _named_files(files) if files else _installed(models_dir):
        try:
            verdict: str = check(entry, path).verdict
            typer.echo(f"{verdict:9} {path}")
        except (WeightsError, OSError) as error:
            verdict = "wrong"
            typer.echo(f"wrong     {error}", err=True)
        verdicts[verdict] += 1
    if verdicts:
        typer.echo(", ".join(f"{count} {verdict}" for verdict, count in verdicts.items()), err=True)
    if verdicts["unpinned"]:
        typer.echo("unpinned: nobody states the file's sha256, so that it cannot be verified", err=True)
    if verdicts["wrong"] + verdicts["missing"]:
        raise typer.Exit(1)


def _named_files(files: list[Path]) -> list[tuple[WeightSet, Path]]:
    """Files with what their names say that they are."""
    from ..weights.hub.manifest import published

    entries = {entry.file: entry for entry in published()}
    for file in files:
        if file.name not in entries:
            raise WeightsError(f"{file}: no published file has this name; see firstframe weights list")
    return [(entries[file.name], file) for file in files]


def _installed(models_dir: Path | None) -> list[tuple[WeightSet, Path]]:
    """The published files that are in ComfyUI's folders. Says so where there is none."""
    from ..weights.hub.folders import model_folders
    from ..weights.hub.manifest import published

    folders = model_folders(models_dir)
    found = [(entry, folders.find(entry.folder, entry.file)) for entry in published()]
    installed = [(entry, path) for entry, path in found if path is not None]
    if not installed:
        typer.echo(f"no published weight set is installed in {folders.models}; see firstframe weights list")
    return installed


@app.command()
def inspect(path: Annotated[Path, typer.Argument(help="A weights file.")]) -> None:
    """Layout, types, parameters and places in the UNet of a file, and what is missing or broken in it."""
    from ..weights.inspect import inspect as look_into

    typer.echo("\n".join(map(printable, _described(look_into(path)))))


class Part(str, Enum):
    """What may be taken out of a file."""

    i2v_adapter = "i2v_adapter"
    motion_module = "motion_module"
    image_tokens = "image_tokens"
    retention = "retention"
    unet = "unet"


class LayerNames(str, Enum):
    """Whose names the tensors of a part get."""

    firstframe = "firstframe"
    diffusers = "diffusers"
    host = "host"


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="A weights file: safetensors, or a pickle (.ckpt, .pth, .pt, .bin).")],
    target: Annotated[Path, typer.Argument(help="The .safetensors file to write.")],
    part: Annotated[
        Part | None, typer.Option(help="Write this part alone; the others in the file are left out.")
    ] = None,
    names: Annotated[
        LayerNames | None,
        typer.Option(
            help="Names of the part: FirstFrame's own (the default), those of diffusers, which others publish with, or "
            "ComfyUI's (host: the default of a UNet, for models/diffusion_models)."
        ),
    ] = None,
) -> None:
    """Turn a pickle into safetensors under the same names, or take one part out of a file."""
    from ..weights.convert import to_own_layout, to_published_layout, to_safetensors, to_unet

    if part is None and names is None:
        to_safetensors(source, target)
    elif part is Part.unet and names is not LayerNames.firstframe:
        to_unet(source, target, "diffusers" if names is LayerNames.diffusers else "host")
    elif part in (None, Part.unet) or names is LayerNames.host:
        raise WeightsError(f"--names {names and names.value} does not go with --part {part and part.value}")
    else:
        write = to_published_layout if names is LayerNames.diffusers else to_own_layout
        write(source, target, cast("Kind", part.value))
    typer.echo(target)


def _described(found: Inspection) -> list[str]:
    types = ", ".join(f"{count:,} {dtype}" for dtype, count in found.dtypes.items())
    lines = [f"{found.path}", f"tensors    {found.tensors}", f"parameters {found.parameters:,} ({types})"]
    for part in found.parts:
        lines.append(f"layout     {part.layout.name}{f', {len(part.sites)} sites' if part.sites else ''}")
        if part.missing:
            lines.append(f"           lacks {', '.join(site.key for site in part.missing)}")
    if not found.parts:
        lines.append("layout     unknown to FirstFrame")
    if found.not_finite:
        lines.append(
            f"broken     {len(found.not_finite)} tensors have NaN or infinite values: {found.not_finite[0]}, ..."
        )
    return lines + [f"metadata   {name}: {value[:200]}" for name, value in found.metadata.items()]


def _size(entry: WeightSet) -> str:
    return "unknown" if entry.bytes is None else f"{entry.bytes / 1e6:,.0f} MB"


def _pin(entry: WeightSet) -> str:
    return "pinned" if entry.pinned else "unpinned"
