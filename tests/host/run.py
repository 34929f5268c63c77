"""Run the host tests in every ComfyUI that is found, in a Python environment of their own.

    python tests/host/run.py [options for pytest]
    python tests/host/run.py --program tests/soak/soak.py [its options]     # another program in place of pytest

COMFYUI_PATH    folders of ComfyUI, one or several (separated like PATH). Default: ~/comfy/ComfyUI
COMFYUI_PYTHON  the Python that runs them. Default: .venv or venv in the folder, else the one that runs this file

ComfyUI's own environment is not touched: an overlay (``.venv-host-*`` in this checkout) sees its packages and adds
what the tests need. Where COMFYUI_PATH names none, and the default folder has none that a Python at hand can run, this
says so and succeeds.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = "Scripts" if os.name == "nt" else "bin"
REQUIREMENTS = ["pytest>=8", "websocket-client>=1.7", "diffusers>=0.35,<1", "-r", str(ROOT / "requirements.txt")]
REQUIREMENTS += ["filelock>=3.12", "rich>=13", "tenacity>=8.2.2", "typer>=0.12"]  # of `firstframe queue`
REQUIREMENTS += ["matplotlib>=3.8", "opencv-python-headless>=4.9"]  # of FirstFrameMeasure
REQUIREMENTS += ["hypothesis>=6"]  # of test_fuzz_nodes.py
REQUIREMENTS += ["playwright>=1.49"]  # of test_browser.py; the browser itself is this machine's
SITE_PACKAGES = "import os, sysconfig; print(os.path.realpath(sysconfig.get_path('purelib')))"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
EDITOR = ("comfyui-frontend-package", "comfyui-workflow-templates")
EDITOR_VERSIONS = f"import importlib.metadata as m; print(*(f'{{name}}=={{m.version(name)}}' for name in {EDITOR}))"
DEFAULT_HOST = Path.home() / "comfy" / "ComfyUI"
SKIPPED = "no ComfyUI in COMFYUI_PATH, and none in ~/comfy/ComfyUI that a Python can run (see COMFYUI_PYTHON)"
HOST_PACKAGES = "import aiohttp, av, comfyui_frontend_package, comfyui_workflow_templates, torch, torchsde"


def find_hosts() -> list[Path]:
    """Folders of ComfyUI, in the order they were named; the default folder counts only if a Python can run it."""
    if "COMFYUI_PATH" not in os.environ and not pythons(DEFAULT_HOST):
        return []
    named = os.environ.get("COMFYUI_PATH", str(DEFAULT_HOST))
    folders = [Path(folder).expanduser().resolve() for folder in named.split(os.pathsep) if folder]
    return [folder for folder in folders if (folder / "main.py").is_file()]


def find_python(host: Path) -> Path:
    """The Python that runs a ComfyUI; SystemExit where there is none that can."""
    found = pythons(host)
    if not found:
        raise SystemExit(f"no Python can run {host}: install its requirements.txt, or set COMFYUI_PYTHON")
    return found[0]


def pythons(host: Path) -> list[Path]:
    """The Pythons at hand that have a ComfyUI's requirements, the best first."""
    own = [host / folder / BIN / "python" for folder in (".venv", "venv")]
    named = [Path(os.environ["COMFYUI_PYTHON"])] if "COMFYUI_PYTHON" in os.environ else []
    return [python for python in [*named, *own, Path(sys.executable)] if python.exists() and runs(python)]


def runs(python: Path) -> bool:
    """Whether a Python can import what ComfyUI requires."""
    return subprocess.run([python, "-c", HOST_PACKAGES], capture_output=True).returncode == 0


def overlay(python: Path) -> Path:
    """The Python of an environment that sees the packages of ``python`` and has the tests' own as well."""
    packages = output(python, "-c", SITE_PACKAGES)
    digest = hashlib.sha256(f"{packages} {REQUIREMENTS}".encode()).hexdigest()[:8]
    folder = ROOT / f".venv-host-{digest}"
    overlaid = folder / BIN / "python"
    done = folder / "done"
    if not done.exists():
        subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
        Path(output(overlaid, "-c", SITE_PACKAGES), "host.pth").write_text(packages + "\n", "utf-8")
        subprocess.run([overlaid, "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True)
        done.touch()
    return overlaid


def find_browser() -> str | None:
    """The program of this machine's Chromium or Chrome."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def editor(host: Path, python: Path) -> Path | None:
    """A folder with the editor that a ComfyUI pins, where ``python`` has another one; None where it has the same."""
    requirements = (host / "requirements.txt").read_text("utf-8").split()
    pins = [line for line in requirements if line.startswith(EDITOR)]
    if set(pins) <= set(output(python, "-c", EDITOR_VERSIONS).split()):
        return None
    folder = python.parents[1] / "editors" / hashlib.sha256(" ".join(pins).encode()).hexdigest()[:8]
    done = folder / "done"
    if not done.exists():
        command = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target", folder, *pins]
        subprocess.run(command, check=True)
        done.touch()
    return folder


def output(python: Path, *arguments: str) -> str:
    """What a Python prints."""
    return subprocess.run([python, *arguments], check=True, capture_output=True, text=True).stdout.strip()


def run(host: Path, options: list[str]) -> int:
    """The tests in one host. They start in its folder, which puts its modules first."""
    print(f"\n==== ComfyUI in {host} ====", flush=True)
    tests = ROOT / "tests" / "host"
    settings = ["--rootdir", ROOT, "-c", ROOT / "pyproject.toml", "--confcutdir", tests]
    environment = {**os.environ, "COMFYUI_PATH": str(host), "PYTHONDONTWRITEBYTECODE": "1"}
    python = overlay(find_python(host))
    if find_browser() and (pinned := editor(host, python)):
        environment["PYTHONPATH"] = str(pinned)
    command = ["-m", "pytest", *settings, tests, *options]
    if options[:1] == ["--program"]:
        command = [ROOT / options[1], *options[2:]]
    return subprocess.run([python, *command], cwd=host, env=environment).returncode


def main() -> int:
    """The worst exit code of all hosts."""
    hosts = find_hosts()
    if not hosts:
        print(f"\n==== HOST TESTS SKIPPED: {SKIPPED} ====\n", flush=True)
    return max((run(host, sys.argv[1:]) for host in hosts), default=0)


if __name__ == "__main__":
    sys.exit(main())
