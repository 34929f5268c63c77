"""From a TOML file to its tables."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ...errors import FirstFrameError
from .tables import DatasetTable, TrainingConfig


def read_config(file: Path) -> TrainingConfig:
    """Read and check a TOML file.

    Raises:
        FirstFrameError: naming the file, the key, its value, and what is expected.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        content = tomllib.loads(file.read_text("utf-8"))
        return TrainingConfig.model_validate(_with_defaults(content), context={"folder": file.parent})
    except OSError as error:
        raise FirstFrameError(f"cannot read {str(file)!r}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FirstFrameError(f"{file}: this is no TOML ({error})") from error
    except ValidationError as error:
        raise FirstFrameError(f"{file}: " + "; ".join(map(_in_words, error.errors()))) from error


def _with_defaults(content: dict[str, Any]) -> dict[str, Any]:
    """Keys of datasets in ``[data]`` moved into each dataset that lacks them."""
    data, datasets = content.get("data"), content.get("datasets")
    if not isinstance(data, dict) or not isinstance(datasets, list):
        return content
    shared = {key: value for key, value in data.items() if key in DatasetTable.model_fields}
    own = {key: value for key, value in data.items() if key not in shared}
    return {**content, "data": own, "datasets": [{**shared, **dataset} for dataset in datasets]}


def _in_words(error: Any) -> str:
    place = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        return f"{place}: there is no such key"
    message = error["msg"].removeprefix("Value error, ")
    given = error["input"]
    shown = f" (got {given!r})" if error["type"] not in ("missing", "value_error") else ""
    return f"{place}: {message}{shown}"
