"""``firstframe queue``: images x prompts x seeds through one or several ComfyUI servers."""

from __future__ import annotations

import asyncio
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from ..errors import FirstFrameError

if TYPE_CHECKING:
    from ..queue.plan import Job
    from ..queue.rules import Rules
    from ..queue.server import Retries
    from ..queue.workflow import Graph

INTERRUPTED = 130
SERVER = "http://127.0.0.1:8188"


def queue(
    workflow: Annotated[Path, typer.Argument(help="A workflow in API format (.json).")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for results and manifest. Again: goes on there.")],
    server: Annotated[
        list[str] | None,
        typer.Option(help=f"Address of a ComfyUI server; {SERVER} if not given. Give it again for more of them."),
    ] = None,
    images: Annotated[Path | None, typer.Option("--images", "--image", help="Folder of images, or one image.")] = None,
    prompt: Annotated[list[str] | None, typer.Option(help="What happens. Give it again for more prompts.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="Text file with one more prompt for each line.")] = None,
    seeds: Annotated[str, typer.Option("--seeds", "--seed", help="Numbers and ranges: 1,2,8-10.")] = "",
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="node.input=value for all jobs; the node by its id, title or class. May be repeated."
        ),
    ] = None,
    image_input: Annotated[
        str | None,
        typer.Option(
            "--image-input", "--picture-input", help="node.input for the image; the only LoadImage if not given."
        ),
    ] = None,
    prompt_input: Annotated[
        str | None, typer.Option(help="node.input for the prompt; the only text before a positive input if not given.")
    ] = None,
    seed_input: Annotated[
        list[str] | None, typer.Option(help="node.input for the seed; every seed and noise_seed if not given.")
    ] = None,
    in_flight: Annotated[int, typer.Option(min=1, help="Jobs that one server has at a time.")] = 2,
    attempts: Annotated[int, typer.Option(min=1, help="How often a job is sent, where servers die under it.")] = 3,
    retries: Annotated[int, typer.Option(min=1, help="Tries for a request before its server counts as gone.")] = 5,
    give_up: Annotated[float, typer.Option(help="Seconds without any server after which to stop.")] = 60.0,
    shard: Annotated[str, typer.Option(help="Do the i-th of n parts of the jobs: i/n.")] = "1/1",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the jobs and send nothing.")] = False,
) -> None:
    """Send every combination of images, prompts and seeds to ComfyUI servers and fetch what they make.

    The manifest in the folder says what made which file. The same command again does what is not done yet.
    """
    from ..queue.manifest import done_jobs
    from ..queue.plan import parse_shard, read_prompts
    from ..queue.rules import Rules
    from ..queue.server import Retries

    part, parts = parse_shard(shard)
    graph = _workflow_with(workflow, set_ or [])
    texts = [*(prompt or []), *(read_prompts(prompts) if prompts else [])]
    jobs = _matrix(graph, images, texts, seeds, image_input, prompt_input, seed_input or [])[part - 1 :: parts]
    if dry_run:
        done = done_jobs(out)
        for job in jobs:
            typer.echo(f"{'done' if job.id in done else 'to do':5}  {job.name}  {job.prompt or ''}".rstrip())
        return
    manifest = out / ("manifest.jsonl" if parts == 1 else f"manifest.{part}-of-{parts}.jsonl")
    try:
        servers = _addresses(server or [SERVER])
        asyncio.run(_send(jobs, servers, manifest, Rules(in_flight, attempts, give_up), Retries(retries)))
    except KeyboardInterrupt:
        typer.echo("stopped; the same command goes on", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except OSError as error:
        raise FirstFrameError(f"stopped: {error}") from error
    left = len({job.id for job in jobs} - done_jobs(out))
    typer.echo(f"done: {len(jobs) - left} of {len(jobs)}, see {manifest.with_suffix('.csv')}")
    if left:
        raise typer.Exit(1)


def _workflow_with(path: Path, settings: list[str]) -> Graph:
    """The workflow with what --set says."""
    from ..queue.workflow import find_place, read_workflow, set_value

    graph = read_workflow(path)
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise FirstFrameError(f"--set {setting!r}: node.input=value, for example KSampler.steps=20")
        set_value(graph, find_place(graph, name), value)
    return graph


def _matrix(
    graph: Graph,
    images: Path | None,
    texts: list[str],
    seeds: str,
    image_input: str | None,
    prompt_input: str | None,
    seed_input: list[str],
) -> list[Job]:
    """All jobs. What is not given keeps the workflow's own value."""
    from ..queue import workflow
    from ..queue.plan import Inputs, make_jobs, parse_seeds, read_images

    image_place = None
    if images:
        graph, image_place = workflow.with_image_input(graph, image_input)
    inputs = Inputs(
        image_place,
        workflow.prompt_input(graph, prompt_input) if texts else None,
        tuple(workflow.seed_inputs(graph, seed_input)) if seeds else (),
    )
    files = read_images(images) if images else []
    numbers = parse_seeds(seeds) if seeds else []
    jobs = make_jobs(graph, inputs, files, texts, numbers)
    same = prod(len(values) or 1 for values in (files, texts, numbers)) - len(jobs)
    if same:
        typer.echo(f"{same} jobs are left out: each would make the same as another", err=True)
    return jobs


def _addresses(urls: list[str]) -> list[str]:
    whole = [url if "://" in url else f"http://{url}" for url in urls]
    for url in whole:
        if not _is_address(url):
            raise FirstFrameError(f"--server {url!r} is no address; for example {SERVER}")
    return list(dict.fromkeys(url.rstrip("/") for url in whole))


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port above 65535, or half of an IPv6 address
        return False


async def _send(jobs: list[Job], urls: list[str], path: Path, rules: Rules, retries: Retries) -> None:
    """Do what is not done yet; the manifest, and in any case the table beside it."""
    from ..clips.leftovers import remove_leftovers
    from ..queue.connection import open_session
    from ..queue.manifest import Manifest, done_jobs, folder_events, write_csv
    from ..queue.progress import Bars
    from ..queue.run import Run
    from ..queue.server import Server

    with Manifest(path) as manifest:
        done = done_jobs(path.parent)
        todo = [job for job in jobs if job.id not in done]
        client = manifest.begin(servers=urls, jobs=len(todo))
        remove_leftovers(path.parent)
        async with open_session() as session:
            servers = [Server(url, client, session, retries) for url in urls]
            with Bars(urls, len(todo)) as bars:
                if manifest.warning:
                    bars.note(manifest.warning)
                bars.note(f"jobs: {len(jobs)}, of them done before: {len(jobs) - len(todo)}")
                try:
                    await Run(servers, todo, manifest, path.parent, rules, bars).run()
                finally:
                    write_csv(path.with_suffix(".csv"), jobs, folder_events(path.parent))
