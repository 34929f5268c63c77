"""The host plans with its own estimate: what the modules take beyond the base has to fit in, or to be reported."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import torch
from conftest import HOST, ROOT

pytestmark = pytest.mark.skipif(torch.version.cuda is None, reason="this PyTorch is not linked with CUDA")


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """One step at 512 px x 16 frames. A host of its own, as with a card."""
    command = [sys.executable, ROOT / "benchmarks" / "peak.py", "--count"]
    output = subprocess.run(command, cwd=HOST, stdout=subprocess.PIPE, text=True, check=True).stdout
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


def test_a_motion_module_takes_no_more_than_the_base(report: dict[str, Any]) -> None:
    """Its feed-forward is as wide as that of the spatial transformers, and comes when theirs is gone.

    The one MiB is the watch for NaN, which looks at a step's prediction.
    """
    for version in ("motion v1", "motion v2"):
        assert report["peaks"][version] - report["peaks"]["base"] <= 1


def test_the_adapter_stays_within_the_estimate(report: dict[str, Any]) -> None:
    assert report["peaks"]["base"] < report["peaks"]["motion v2 + adapter"] < report["estimate"]


def test_the_branch_reports_what_it_adds(report: dict[str, Any]) -> None:
    added = report["peaks"]["motion v2 + adapter + retention"] - report["peaks"]["motion v2 + adapter"]
    assert 0 < added < report["reported"]
