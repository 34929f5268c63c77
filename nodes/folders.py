"""Where model files are looked for; ``extra_model_paths.yaml`` may name more places under the same names."""

from __future__ import annotations

from pathlib import Path

import folder_paths

from ..firstframe.weights.hub.hints import how_to_get

MOTION_MODULES = "animatediff_models"
MOTION_LORAS = "animatediff_motion_lora"
ADAPTERS = "firstframe"
CONTENT_ADAPTERS = "ipadapter"


def register() -> None:
    """Add the folders to the host's list. Other packs may have added those of AnimateDiff and IP-Adapter already."""
    for name in (MOTION_MODULES, MOTION_LORAS, ADAPTERS, CONTENT_ADAPTERS):
        folder_paths.add_model_folder_path(name, str(Path(folder_paths.models_dir) / name))


def files_in(name: str) -> list[str]:
    """Weights files in a folder of the host, by name."""
    suffixes = folder_paths.supported_pt_extensions
    return [file for file in folder_paths.get_filename_list(name) if Path(file).suffix.lower() in suffixes]


def is_there(name: str, file: str) -> bool | str:
    """For the host's validation: whether a folder has a file, or else how to get it."""
    return True if file in files_in(name) else how_to_get(name, file)


def path_of(name: str, file: str) -> Path:
    """The full path of a listed file; the host's error where it is gone."""
    return Path(folder_paths.get_full_path_or_raise(name, file))
