"""From a weights file to a module and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ..errors import FirstFrameError, WeightsError
from ..modules.backend import TORCH, Backend
from ..modules.i2v_adapter import I2VAdapter
from ..modules.image_prompt import ImageTokenAdapter, Resampler, ResamplerConfig
from ..modules.motion import MotionConfig, MotionModule
from ..modules.retention import RetentionBranch, RetentionConfig
from ..sites import Site, UNetConfig
from .files import StateDict, load_metadata, load_state_dict, save_state_dict
from .keymaps import Names, to_ours
from .layouts import Kind, carries_motion, detect_layout

Module = TypeVar("Module", bound=nn.Module)

SD15_HEADS = 8
OFFICIAL_IMAGE_TOKENS = 16
V1_MAX_FRAMES = 24


@dataclass(frozen=True)
class _Contents:
    """A weights file of one kind: its tensors under our names and the configuration in its metadata."""

    path: Path | str
    state: StateDict
    config: dict[str, Any]
    keymap: Names | None

    def widths(self, name: str) -> dict[Site, int]:
        """Width by site, read off the tensors called ``name`` at each site."""
        found = {key.split(".")[1]: key for key in self.state if key.endswith("." + name)}
        return {Site.from_key(site): self.state[key].shape[0] for site, key in found.items()}

    def name_in_file(self, name: str) -> str:
        return self.keymap.theirs(name) if self.keymap else name


@contextmanager
def _contents(path: Path | str, kind: Kind) -> Iterator[_Contents]:
    """Read a file; what goes wrong with its contents inside the block becomes an error that names it."""
    state, metadata = load_state_dict(path), load_metadata(path)
    try:
        layout = detect_layout(state, kind)
        if carries_motion(state):
            state = {name: tensor for name, tensor in state.items() if layout.owns(name)}
        renamed = to_ours(state, layout.keymap) if layout.keymap else state
        stored = metadata.get(_config_key(kind, metadata.get("firstframe.kind")), "{}")
        yield _Contents(path, renamed, json.loads(stored), layout.keymap)
    except FirstFrameError as error:
        raise WeightsError(f"{path}: {error}") from error


def _config_key(kind: Kind, kind_of_file: str | None) -> str:
    """Where the metadata has the configuration of ``kind``: a part that is carried along has a key of its own."""
    return "firstframe.config" if kind_of_file in (None, kind) else f"firstframe.config.{kind}"


def load_adapter(
    path: Path | str,
    *,
    backend: Backend = TORCH,
    dtype: torch.dtype | None = torch.float32,
) -> I2VAdapter:
    """An I2V adapter from our own layout, the official or the unofficial one. ``dtype`` None keeps the file's types.

    The sites are those in the file. Raises WeightsError naming the file and what is wrong in it.
    """
    with _contents(path, "i2v_adapter") as contents:
        widths = contents.widths("to_q.weight")
        num_heads = contents.config.get("num_heads", SD15_HEADS)
        own = any(name.endswith(".to_k.weight") for name in contents.state)
        build = partial(I2VAdapter, widths, num_heads, own_projections=own)
        return _filled(build, backend, contents, dtype)


def load_motion(
    path: Path | str,
    *,
    backend: Backend = TORCH,
    dtype: torch.dtype | None = torch.float32,
) -> MotionModule:
    """A motion module from our own layout or AnimateDiff's (v1, v2, v3, AnimateLCM), as :func:`load_adapter`."""
    with _contents(path, "motion_module") as contents:
        config = _motion_config(contents)
        return _filled(partial(MotionModule, config), backend, contents, dtype)


def load_motion_lora(path: Path | str) -> StateDict:
    """Low-rank changes of a motion module (arXiv 2106.09685) from AnimateDiff's layout.

    Returns:
        For each changed layer ``sites.down_0_0.attentions.0.to_q.lora_up.weight`` (C, r) and ``.lora_down.weight``
        (r, C), whose product is added to its weight (C, C).

    Raises WeightsError naming the file and what is wrong in it: a layer with one half alone, or halves that do not fit.
    """
    with _contents(path, "motion_lora") as contents:
        for name, up in contents.state.items():
            if name.endswith(".lora_up.weight"):
                _check_halves(contents, name, up)
            elif name.replace("lora_down", "lora_up") not in contents.state:
                raise WeightsError(f"{contents.name_in_file(name)} has no other half; the file is cut off")
        return contents.state


def _check_halves(contents: _Contents, name: str, up: Tensor) -> None:
    down = contents.state.get(name.replace("lora_up", "lora_down"))
    if down is None:
        raise WeightsError(f"{contents.name_in_file(name)} has no other half; the file is cut off")
    if up.ndim != 2 or up.shape != down.T.shape:
        shapes = f"{tuple(up.shape)} and {tuple(down.shape)}"
        raise WeightsError(f"the halves of {contents.name_in_file(name)} are {shapes}, which do not fit each other")


def load_image_tokens(
    path: Path | str,
    *,
    backend: Backend = TORCH,
    dtype: torch.dtype | None = torch.float32,
) -> ImageTokenAdapter:
    """Image token projections from our own layout, the official one or IP-Adapter's, as :func:`load_adapter`."""
    with _contents(path, "image_tokens") as contents:
        widths = contents.widths("to_k_ip.weight")
        token_dim = next(tensor.shape[1] for tensor in contents.state.values())
        num_heads = contents.config.get("num_heads", SD15_HEADS)
        num_tokens = contents.config.get("num_tokens", OFFICIAL_IMAGE_TOKENS)
        return _filled(
            partial(ImageTokenAdapter, widths, token_dim, num_heads, num_tokens),
            backend,
            contents,
            dtype,
        )


def load_resampler(
    path: Path | str,
    *,
    backend: Backend = TORCH,
    dtype: torch.dtype | None = torch.float32,
) -> Resampler:
    """The resampler in a file of IP-Adapter Plus, as :func:`load_adapter`."""
    with _contents(path, "resampler") as contents:
        config = _resampler_config(contents)
        return _filled(partial(Resampler, config), backend, contents, dtype)


def _resampler_config(contents: _Contents) -> ResamplerConfig:
    needed = ("latents", "proj_in.weight", "proj_out.weight", "layers.0.1.1.weight")
    for name in needed:
        if name not in contents.state:
            raise WeightsError(f"{contents.name_in_file(name)} is missing; the file is cut off or of another model")
    latents, proj_in, proj_out, feed_forward = (contents.state[name] for name in needed)
    return ResamplerConfig(
        feature_dim=proj_in.shape[1],
        width=latents.shape[2],
        token_dim=proj_out.shape[0],
        num_tokens=latents.shape[1],
        depth=len({name.split(".")[1] for name in contents.state if name.startswith("layers.")}),
        feed_forward=feed_forward.shape[0] // latents.shape[2],
    )


def load_retention(
    path: Path | str,
    *,
    backend: Backend = TORCH,
    dtype: torch.dtype | None = torch.float32,
) -> RetentionBranch:
    """A frame retention branch from our own layout, as :func:`load_adapter`.

    A motion module that was trained with it and is in the same file is what :func:`load_motion` gives.
    """
    with _contents(path, "retention") as contents:
        config = _retention_config(contents)
        return _filled(partial(RetentionBranch, config), backend, contents, dtype)


def has_motion_module(path: Path | str) -> bool:
    """Whether the retention branch's file ``path`` also has a motion module, for :func:`load_motion`."""
    return _config_key("motion_module", "retention") in load_metadata(path)


def _retention_config(contents: _Contents) -> RetentionConfig:
    if not contents.config:
        raise WeightsError("the metadata firstframe.config is missing, which says for which UNet the branch is")
    unet, motion, stem = (contents.config[part] for part in ("unet", "motion", "stem_channels"))
    return RetentionConfig(UNetConfig(**_with_tuples(unet)), MotionConfig(**_with_tuples(motion)), tuple(stem))


def _with_tuples(stored: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()}


def _motion_config(contents: _Contents) -> MotionConfig:
    """From the metadata, else off the shapes: 24 positions mean v1, where the UNet's norms pool; none, AnimateLCM."""
    if contents.config:
        return MotionConfig(**_with_tuples(contents.config))
    widths = contents.widths("proj_in.weight")
    down = {site: width for site, width in sorted(widths.items()) if site.stage == "down"}
    max_frames = max((tensor.shape[1] for name, tensor in contents.state.items() if name.endswith(".pe")), default=None)
    if not down:
        raise WeightsError("no down blocks; a motion module has them. The file is cut off or of another model")
    return MotionConfig(
        block_out_channels=tuple({site.block: width for site, width in down.items()}.values()),
        layers_per_block=max(site.layer for site in down) + 1,
        mid=Site("mid", 0, 0) in widths,
        max_frames=max_frames,
        num_heads=SD15_HEADS,
        pooled_unet_norms=max_frames == V1_MAX_FRAMES,
    )


def _filled(build: Callable[..., Module], backend: Backend, contents: _Contents, dtype: torch.dtype | None) -> Module:
    """The module that ``build`` makes with ``backend``, with the file's tensors as its own."""
    with torch.device("meta"):
        # a host's layers may have no weights yet, so that the shapes are taken from torch's own
        _check_tensors(build(backend=TORCH).state_dict(), contents)
        module = build(backend=backend)
    tensors = {name: tensor.to(dtype or tensor.dtype) for name, tensor in contents.state.items()}
    module.load_state_dict(tensors, assign=True)
    return module


def _check_tensors(wanted: Mapping[str, Tensor], contents: _Contents) -> None:
    found = contents.state
    for name in wanted.keys() - found.keys():
        raise WeightsError(f"{contents.name_in_file(name)} is missing; the file is cut off or of another model")
    for name, tensor in found.items():
        shape, shown = tuple(tensor.shape), contents.name_in_file(name)
        if name not in wanted:
            raise WeightsError(f"{shown} {shape} has no place in this model")
        if tensor.shape != wanted[name].shape:
            raise WeightsError(f"{shown} has shape {shape}, not {tuple(wanted[name].shape)}")


def save_adapter(
    path: Path | str,
    adapter: I2VAdapter,
    metadata: Mapping[str, str] | None = None,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write ``adapter`` in our own layout, with ``metadata`` beside what loading it needs."""
    _save(path, adapter, "i2v_adapter", {"num_heads": adapter.num_heads}, metadata, dtype)


def save_motion(
    path: Path | str,
    motion: MotionModule,
    metadata: Mapping[str, str] | None = None,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write ``motion`` in our own layout, as :func:`save_adapter`."""
    _save(path, motion, "motion_module", asdict(motion.config), metadata, dtype)


def save_image_tokens(
    path: Path | str,
    image_tokens: ImageTokenAdapter,
    metadata: Mapping[str, str] | None = None,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write ``image_tokens`` in our own layout, as :func:`save_adapter`."""
    config = {"num_heads": image_tokens.num_heads, "num_tokens": image_tokens.num_tokens}
    _save(path, image_tokens, "image_tokens", config, metadata, dtype)


def save_retention(
    path: Path | str,
    branch: RetentionBranch,
    metadata: Mapping[str, str] | None = None,
    dtype: torch.dtype = torch.float16,
    motion: MotionModule | None = None,
) -> None:
    """Write ``branch`` in our own layout, as :func:`save_adapter`.

    ``motion`` is the primary's motion module where it was trained together with the branch.
    """
    modules, metadata = dict(branch.named_children()), dict(metadata or {})
    if motion is not None:
        modules.update(motion.named_children())
        metadata["firstframe.config.motion_module"] = json.dumps(asdict(motion.config))
    _save(path, nn.ModuleDict(modules), "retention", asdict(branch.config), metadata, dtype)


def _save(
    path: Path | str,
    module: nn.Module,
    kind: Kind,
    config: Mapping[str, Any],
    metadata: Mapping[str, str] | None,
    dtype: torch.dtype,
) -> None:
    parameters = {name: tensor.to(dtype) for name, tensor in module.named_parameters()}
    own = {"firstframe.kind": kind, "firstframe.config": json.dumps(config)}
    save_state_dict(path, {**module.state_dict(), **parameters}, {**(metadata or {}), **own})
