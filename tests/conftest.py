"""Fixtures that many tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def oracle_dir() -> Path:
    """Folder of the official implementation's inputs and outputs; FIRSTFRAME_ORACLE names another one."""
    return Path(os.environ.get("FIRSTFRAME_ORACLE", Path(__file__).parent / "data" / "official_oracle"))


@pytest.fixture(scope="session")
def expected(oracle_dir: Path) -> dict[str, Tensor]:
    """Inputs and outputs of the official implementation."""
    return load_file(oracle_dir / "expected.safetensors")


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded CPU generator."""
    return torch.Generator("cpu").manual_seed(0)
