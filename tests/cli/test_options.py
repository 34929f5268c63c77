"""Options that several commands share."""

from __future__ import annotations

import pytest
import torch
from typer.testing import CliRunner

from firstframe.cli.app import app
from firstframe.cli.options import resolve_device
from firstframe.errors import FirstFrameError


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch):
    def set_counts(cuda: int, mps: bool) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return set_counts


@pytest.mark.parametrize(("cuda", "mps", "found"), [(1, False, "cuda"), (0, True, "mps"), (0, False, "cpu")])
def test_the_device_is_found(devices, cuda: int, mps: bool, found: str) -> None:
    devices(cuda, mps)
    assert resolve_device("") == torch.device(found)


def test_the_device_is_as_named(devices) -> None:
    devices(2, False)
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("cuda:1") == torch.device("cuda:1")


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps", "gpu", "cuda:x", "meta"])
def test_a_device_that_is_not_there_is_refused(devices, name: str) -> None:
    devices(0, False)
    with pytest.raises(FirstFrameError, match=name):
        resolve_device(name)


@pytest.mark.parametrize("command", [["measure", "tiny"], ["measure", "photographs", "."], ["train", "tiny"]])
def test_it_is_refused_in_one_line(devices, command: list[str]) -> None:
    devices(0, False)
    result = CliRunner().invoke(app, [*command, "--device", "cuda"])
    assert result.exit_code == 1 and len(result.stderr.splitlines()) == 1, result.output
    assert "finds 0 CUDA devices" in result.stderr
