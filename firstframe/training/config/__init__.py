"""The TOML file of a training."""

from __future__ import annotations

from .read import read_config
from .tables import TINY, DatasetTable, ModelTable, SamplesTable, TrainingConfig, TrainTable

__all__ = ["TINY", "DatasetTable", "ModelTable", "SamplesTable", "TrainTable", "TrainingConfig", "read_config"]
