"""The host and the pack, imported once for all host tests. Started by ``run.py``, in the host's folder."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOST = Path(os.environ["COMFYUI_PATH"])
PACK = "comfyui_firstframe_pack"

sys.path.insert(0, str(HOST))
sys.path.insert(1, str(Path(__file__).parent))

from device import CUDA, chosen_device, in_process_options, use_full_precision  # noqa: E402


def import_host() -> None:
    """ComfyUI reads its command line when it is imported."""
    command, sys.argv = sys.argv, ["main.py", *in_process_options()]
    try:
        import comfy.options

        comfy.options.enable_args_parsing()
        import comfy.cli_args
    finally:
        sys.argv = command


def import_pack() -> None:
    """As ComfyUI does it: this checkout is a package, under a name that has nothing to do with its modules."""
    spec = importlib.util.spec_from_file_location(PACK, ROOT / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACK] = module
    spec.loader.exec_module(module)


import_host()
import_pack()

import torch  # noqa: E402
from comfyui_firstframe_pack.firstframe.weights import load_state_dict  # noqa: E402
from harness import Server, running_server  # noqa: E402


def pytest_configure(config: pytest.Config) -> None:
    """The host's own warnings are not about the pack."""
    use_full_precision()
    config.addinivalue_line("filterwarnings", "ignore::UserWarning")


@pytest.fixture(scope="session", autouse=True)
def warm() -> None:
    """On a GPU the first sampling of a process differs from later ones by 2e-4 (H200): kernels are chosen anew."""
    if chosen_device() == CUDA:
        from small import ksample, small_model

        with torch.inference_mode():
            ksample(small_model())


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    """The host runs nodes without gradients."""
    with torch.inference_mode():
        yield


@pytest.fixture(autouse=True)
def told_feature(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> None:
    """Into the test's report, for compatibility.py."""
    for mark in request.node.iter_markers("feature"):
        record_property("feature", mark.args[0])


@pytest.fixture(scope="session")
def oracle_dir() -> Path:
    """Folder of the official implementation's inputs and outputs; FIRSTFRAME_ORACLE names another one."""
    return Path(os.environ.get("FIRSTFRAME_ORACLE", ROOT / "tests" / "data" / "official_oracle"))


@pytest.fixture(scope="session")
def expected(oracle_dir: Path) -> dict[str, torch.Tensor]:
    """Inputs and outputs of the official implementation."""
    return load_state_dict(oracle_dir / "expected.safetensors")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that need one."""
    with running_server(HOST, tmp_path_factory.mktemp("comfyui")) as running:
        yield running
