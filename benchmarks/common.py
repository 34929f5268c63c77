"""What the benchmarks share: the host in a process of its own, its peak memory, and files with results."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path("benchmarks/results")
PACKS = Path(os.environ.get("FIRSTFRAME_PACKS", Path.home() / "comfy" / "packs")).expanduser()
EVOLVED = PACKS / "ComfyUI-AnimateDiff-Evolved"

sys.path.insert(0, str(ROOT / "tests" / "host"))
from run import find_hosts, find_python, overlay  # noqa: E402


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser that shows a benchmark's docstring, with ``--out``."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results (default: %(default)s)")
    return parser


def first_host() -> Path:
    """The folder of the first ComfyUI that tests/host/run.py finds; SystemExit where there is none."""
    hosts = find_hosts()
    if not hosts:
        raise SystemExit("no ComfyUI in COMFYUI_PATH or ~/comfy/ComfyUI")
    return hosts[0]


def run_in_host(script: str, *options: Any) -> str:
    """Run a script in the first host's environment and folder; the last line that it prints."""
    host = first_host()
    command = [overlay(find_python(host)), script, *map(str, options)]
    output = subprocess.run(command, cwd=host, stdout=subprocess.PIPE, text=True, check=True).stdout
    return output.splitlines()[-1]


def import_host(*options: str, checkout: Path = ROOT) -> None:
    """Import the host of the current folder in this process, and make the pack's core in ``checkout`` importable.

    Args:
        options: for the host's command line; ``--cpu`` is added where there is no CUDA.
        checkout: of this repository.
    """
    command, sys.argv = sys.argv, ["main.py", *([] if torch.cuda.is_available() else ["--cpu"]), *options]
    sys.path[:] = [str(Path.cwd()), *sys.path, str(checkout)]
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.cli_args

    sys.argv = command


def resident_bytes() -> int:
    """The highest resident set so far, from Linux's /proc (getrusage would include the parent's)."""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text("utf-8"))
    return 1024 * int(found[1]) if found else 0


def save(folder: Path, name: str, report: dict[str, Any], page: str) -> None:
    """Write ``report`` to NAME.json and ``page`` to NAME.md, and print the page."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    (folder / f"{name}.md").write_text(page, "utf-8")
    print(page)
