"""ComfyUI's model folders, seen from outside of it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ...errors import WeightsError

USUAL = Path.home() / "comfy" / "ComfyUI"


@dataclass(frozen=True)
class ModelFolders:
    """Where ComfyUI looks for model files.

    Attributes:
        models: its ``models`` folder.
        extra: more folders for each kind, from ``extra_model_paths.yaml``.
        preferred: of these, the kinds whose extra folder comes first ("is_default").
    """

    models: Path
    extra: dict[str, list[Path]] = field(default_factory=dict)
    preferred: dict[str, Path] = field(default_factory=dict)

    def target(self, kind: str) -> Path:
        """The folder that a new file of this kind goes to."""
        return self.preferred.get(kind, self.models / kind)

    def find(self, kind: str, file: str) -> Path | None:
        """A file of this kind, wherever ComfyUI would find it."""
        for folder in (self.target(kind), self.models / kind, *self.extra.get(kind, ())):
            if (folder / file).is_file():
                return folder / file
        return None


def model_folders(models_dir: Path | None = None) -> ModelFolders:
    """Those of ``models_dir``, or of the ComfyUI that COMFYUI_PATH names, or of ~/comfy/ComfyUI.

    ``extra_model_paths.yaml`` is read from beside the ``models`` folder. Raises WeightsError where there is no folder.
    """
    if models_dir is None:
        named = os.environ.get("COMFYUI_PATH", str(USUAL)).split(os.pathsep)[0]
        models_dir = Path(named) / "models"
        if not models_dir.is_dir():
            raise WeightsError(f"{models_dir}: there is no such folder; name ComfyUI's models with --models-dir")
    settings = models_dir.parent / "extra_model_paths.yaml"
    return _with_extra(models_dir, yaml.safe_load(settings.read_text("utf-8")) if settings.is_file() else None)


def _with_extra(models: Path, settings: dict[str, Any] | None) -> ModelFolders:
    folders = ModelFolders(models)
    for section in (settings or {}).values():
        base = Path(os.path.expandvars(section.get("base_path", ""))).expanduser()
        for kind, lines in section.items():
            if kind in ("base_path", "is_default") or not lines:
                continue
            places = [models.parent / base / line for line in lines.split("\n") if line]
            folders.extra.setdefault(kind, []).extend(places)
            if section.get("is_default"):
                folders.preferred.setdefault(kind, places[0])
    return folders
