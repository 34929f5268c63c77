"""From one kind of weights file to another."""

from __future__ import annotations

from pathlib import Path

from ..errors import WeightsError, printable, still_wanted
from .door import check_finite
from .files import StateDict, load_metadata, load_state_dict, save_state_dict
from .keymaps import to_theirs
from .kinds import OWN_KINDS
from .layouts import Kind
from .module_files import load, save
from .unet_names import UNetNames, unet_tensors


def to_safetensors(source: Path, target: Path) -> None:
    """The tensors of ``source``, a pickle or safetensors file, under their own names in a safetensors file.

    Its metadata keeps what ``source`` had and says where it is from. Raises WeightsError where ``source`` cannot be
    read, and leaves a ``target`` that was there as it was.
    """
    state = load_state_dict(source)
    _check_values(source, state)
    _check_target(target)
    save_state_dict(target, state, {**load_metadata(source), **_from(source)})


def to_own_layout(source: Path, target: Path, kind: Kind) -> None:
    """One part of ``source``, in whichever layout, in FirstFrame's own: the other parts of the file are left out.

    Raises WeightsError where there is no such part in it, or something is wrong with it.
    """
    module = load(OWN_KINDS[kind], source, dtype=None)
    _check_target(target)
    save(OWN_KINDS[kind], target, module, _from(source), next(module.parameters()).dtype)


def to_published_layout(source: Path, target: Path, kind: Kind) -> None:
    """One part of ``source``, in whichever layout, under the names that others know: those of diffusers' UNet.

    Raises WeightsError as `to_own_layout`, and for a part that has no published layout.
    """
    published = OWN_KINDS[kind].published
    if published is None:
        raise WeightsError(f"{source}: nobody else publishes such a part ({kind}), so that it has no other names")
    module = load(OWN_KINDS[kind], source, dtype=None)
    _check_target(target)
    save_state_dict(target, to_theirs(module.state_dict(), published(module)), _from(source))


def to_unet(source: Path, target: Path, names: UNetNames) -> None:
    """The UNet in ``source``, whose names are those of diffusers or of ComfyUI (the host), under either.

    Raises WeightsError where there is none.
    """
    state = load_state_dict(source)
    try:
        unet = unet_tensors(state, names)
    except WeightsError as error:
        raise WeightsError(f"{source}: {error}") from error
    _check_values(source, unet)
    _check_target(target)
    save_state_dict(target, unet, _from(source))


def _from(source: Path) -> dict[str, str]:
    return {"firstframe.converted_from": source.name}


def _check_values(source: Path, state: StateDict) -> None:
    for name, tensor in still_wanted(state.items()):
        try:
            check_finite(source, printable(name), tensor)
        except WeightsError as error:
            raise WeightsError(f"{source}: {error}") from error


def _check_target(target: Path) -> None:
    if target.suffix != ".safetensors":
        raise WeightsError(f"{target}: only safetensors files are written; give it that ending")
    if not target.parent.is_dir():
        raise WeightsError(f"{target}: there is no folder {target.parent}")
