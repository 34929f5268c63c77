"""One kind of module in a weights file: its tensors under our names, checked before they are used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..errors import FirstFrameError, WeightsError, printable, still_wanted
from ..modules.backend import TORCH, Backend
from ..sites import Site
from .config import Config, parse_config
from .door import check_finite
from .files import StateDict, load_metadata, load_state_dict
from .keymaps import Names, to_ours
from .layouts import Kind, detect_layout, holds_two

Module = TypeVar("Module", bound=nn.Module)

TYPES = {torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2}


@dataclass(frozen=True)
class Contents:
    """What a weights file has of one kind.

    Attributes:
        state: tensors under our names.
        stored: the configuration in the file's metadata, as JSON; None where there is none.
        keymap: of the file's names; None where they are our own.
    """

    path: Path | str
    state: StateDict
    stored: str | None
    keymap: Names | None

    def config(self, schema: type[Config]) -> Config:
        """The configuration in the metadata; the defaults of ``schema`` where there is none."""
        return parse_config(schema, self.stored or "{}")

    def shape(self, name: str, ndim: int) -> tuple[int, ...]:
        """The shape of the tensor called ``name``. Raises WeightsError unless it is there with ``ndim`` axes."""
        if name not in self.state:
            raise WeightsError(f"{self.shown(name)} is missing; the file is cut off or of another model")
        shape = tuple(self.state[name].shape)
        if len(shape) != ndim:
            raise WeightsError(f"{self.shown(name)} has shape {shape}, not one of {ndim} axes")
        return shape

    def widths(self, name: str) -> dict[Site, int]:
        """Width by site, read off the weights called ``name``. Raises WeightsError where no site has such a tensor."""
        found = {key.split(".")[1]: key for key in self.state if key.endswith("." + name)}
        if not found:
            raise WeightsError(f"no site has a tensor {name}; the file is cut off or of another model")
        return {Site.from_key(site): self.shape(key, 2)[0] for site, key in found.items()}

    def shown(self, name: str) -> str:
        """What the file calls our ``name``, for a message."""
        return printable(self.keymap.theirs(name) if self.keymap else name)

    def fill(self, build: Callable[[Backend], Module], backend: Backend, dtype: torch.dtype | None) -> Module:
        """The module that ``build`` makes with ``backend``, with the file's tensors as its own.

        They are compared with the module's names and shapes before it takes any memory. Then each is read through
        once, in search of NaN.
        """
        with torch.device("meta"):
            # a host's layers may have no weights yet, so that the shapes are taken from torch's own
            plain = build(TORCH)
            self._check_shapes(plain.state_dict())
            module = plain if backend is TORCH else build(backend)
        self.check_values()
        module.load_state_dict({name: t.to(dtype or t.dtype) for name, t in self.state.items()}, assign=True)
        return module

    def _check_shapes(self, wanted: Mapping[str, Tensor]) -> None:
        for name in wanted.keys() - self.state.keys():
            raise WeightsError(f"{self.shown(name)} is missing; the file is cut off or of another model")
        for name, tensor in self.state.items():
            shape = tuple(tensor.shape)
            if name not in wanted:
                raise WeightsError(f"{self.shown(name)} {shape} has no place in this model")
            if tensor.shape != wanted[name].shape:
                raise WeightsError(f"{self.shown(name)} has shape {shape}, not {tuple(wanted[name].shape)}")

    def check_values(self) -> None:
        """WeightsError for a tensor that is not of floating-point numbers, or where one of them is not finite."""
        for name, tensor in still_wanted(self.state.items()):
            if tensor.dtype not in TYPES:
                raise WeightsError(f"{self.shown(name)} is of type {tensor.dtype}; weights are floating-point numbers")
            check_finite(self.path, self.shown(name), tensor)


@contextmanager
def opened(path: Path | str, kind: Kind) -> Iterator[Contents]:
    """Read a file; what is wrong with its contents inside the block becomes an error that names it."""
    state, metadata = load_state_dict(path), load_metadata(path)
    try:
        layout = detect_layout(state, kind)
        if holds_two(state):
            state = {name: tensor for name, tensor in state.items() if layout.owns(name)}
        renamed = to_ours(state, layout.keymap) if layout.keymap else state
        stored = metadata.get(config_key(kind, metadata.get("firstframe.kind")))
        yield Contents(path, renamed, stored, layout.keymap)
    except FirstFrameError as error:
        raise WeightsError(f"{path}: {error}") from error


def config_key(kind: Kind, kind_of_file: str | None) -> str:
    """Where the metadata has the configuration of ``kind``: a module that is carried along has a key of its own."""
    return "firstframe.config" if kind_of_file in (None, kind) else f"firstframe.config.{kind}"
