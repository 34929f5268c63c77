"""Fixtures that many tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
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


NAMES_IN_DIFFUSERS = {
    "norm.": "norm.",
    "proj_in.": "proj_in.",
    "norms.0.": "transformer_blocks.0.norm1.",
    "norms.1.": "transformer_blocks.0.norm2.",
    "attentions.0.to_out.": "transformer_blocks.0.attn1.to_out.0.",
    "attentions.1.to_out.": "transformer_blocks.0.attn2.to_out.0.",
    "attentions.0.pe": "transformer_blocks.0.pos_embed.pe",
    "attentions.0.": "transformer_blocks.0.attn1.",
    "attentions.1.": "transformer_blocks.0.attn2.",
    "ff_norm.": "transformer_blocks.0.norm3.",
    "ff.proj.": "transformer_blocks.0.ff.net.0.proj.",
    "ff.out.": "transformer_blocks.0.ff.net.2.",
    "proj_out.": "proj_out.",
}


@pytest.fixture
def diffusers_names() -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """Renames the state dict of one site of our motion module to diffusers' names."""

    def rename(state: dict[str, Tensor]) -> dict[str, Tensor]:
        renamed = {}
        for name, tensor in state.items():
            prefix = next(p for p in NAMES_IN_DIFFUSERS if name.startswith(p))
            renamed[NAMES_IN_DIFFUSERS[prefix] + name.removeprefix(prefix)] = tensor
        del renamed["transformer_blocks.0.attn2.pe"]  # diffusers shares one table between the attentions
        return renamed

    return rename
