"""ComfyUI's answers as models. `read` is the one door through which a server's JSON comes in."""

from __future__ import annotations

from pathlib import PurePosixPath, PureWindowsPath
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    RootModel,
    ValidationError,
    model_validator,
)

from ..errors import printable
from .errors import ServerTroubleError

LONGEST_TEXT = 2000  # characters
MOST_FILES = 10_000
SHOWN_PLACE = 120  # characters of the place in an answer that an error names

T = TypeVar("T", bound=BaseModel)


def read(kind: type[T], body: bytes | str) -> T:
    """An answer as a model.

    Args:
        kind: The model.
        body: JSON as it came.

    Raises:
        ServerTroubleError: The body is no JSON, or JSON of another shape; names the first wrong place.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = printable(".".join(map(str, first["loc"])))[:SHOWN_PLACE]
        raise ServerTroubleError(f"{f'{place}: ' if place else ''}{first['msg']}; is this a ComfyUI server?") from error


def one_line(text: str) -> str:
    """What a server says, fit for a terminal and a table: one line without control characters, of bounded length."""
    return printable(" ".join(text.split()))[:LONGEST_TEXT]


def _prompt_id(item: Any) -> Any:
    """The id in an item of the queue: ``[number, id, graph, …]``."""
    if not isinstance(item, list) or len(item) < 2:
        raise ValueError("should be a list that starts with a number and an id")
    return item[1]


def _by_kind(messages: Any) -> Any:
    """``[[kind, data], …]`` as a dictionary."""
    if not isinstance(messages, list) or not all(_is_message(message) for message in messages):
        raise ValueError("should be a list of pairs: a name and an object")
    return dict(messages)


def _is_message(message: Any) -> bool:
    return (
        isinstance(message, list) and len(message) == 2 and isinstance(message[0], str) and isinstance(message[1], dict)
    )


def _files(output: Any) -> Any:
    """The files in what a node put out; nodes put out other things as well."""
    if not isinstance(output, dict):
        raise ValueError("should be an object")
    lists = [found for found in output.values() if isinstance(found, list)]
    return [file for found in lists for file in found if isinstance(file, dict) and "filename" in file]


def _plain_name(name: str) -> str:
    if name in ("", ".", "..") or PureWindowsPath(name).name != name or not name.isprintable():
        raise ValueError("should be a plain file name")
    return name


def _inner_folder(folder: str) -> str:
    paths = PurePosixPath(folder), PureWindowsPath(folder)
    if any(path.anchor or ".." in path.parts for path in paths) or not folder.isprintable():
        raise ValueError("should be a folder inside the server's own")
    return folder


Line = Annotated[str, AfterValidator(one_line)]
PromptId = Annotated[str, BeforeValidator(_prompt_id)]


class _Answer(BaseModel):
    """Types are exact, numbers finite; further fields are ignored."""

    model_config = ConfigDict(strict=True, frozen=True)


class Queued(_Answer):
    """GET /queue: ids of what runs, and of what waits."""

    queue_running: list[PromptId]
    queue_pending: list[PromptId]


class Stored(_Answer):
    """POST /upload/image: the name that the image got."""

    name: str


class NodeError(_Answer):
    """One thing that is wrong with a node's inputs."""

    message: Line
    details: Line = ""


class NodeErrors(_Answer):
    """What is wrong with a node."""

    class_type: Line
    errors: list[NodeError]


class Accepted(_Answer):
    """POST /prompt: the id of a graph that was queued, and what is wrong with all of it or with some nodes."""

    prompt_id: str | None = None
    error: NodeError | None = None
    node_errors: dict[Line, NodeErrors] = {}

    @model_validator(mode="after")
    def _says_something(self) -> Accepted:
        if self.prompt_id is None and self.error is None:
            raise ValueError("should have a prompt_id or an error")
        return self


class File(_Answer):
    """An output, as /view wants it. No name leads out of a folder."""

    filename: Annotated[str, Field(max_length=255), AfterValidator(_plain_name)]
    subfolder: Annotated[str, Field(max_length=1024), AfterValidator(_inner_folder)] = ""
    type: Annotated[str, Field(max_length=64), AfterValidator(_plain_name)] = "output"


class Stamp(_Answer):
    """When something happened (milliseconds)."""

    timestamp: FiniteFloat


class ExecutionError(_Answer):
    """The exception of a node."""

    node_id: Line
    node_type: Line
    exception_type: Line
    exception_message: Line


class Messages(_Answer):
    """What happened to a job."""

    execution_start: Stamp | None = None
    execution_success: Stamp | None = None
    execution_error: ExecutionError | None = None


class Status(_Answer):
    """How a job went."""

    messages: Annotated[Messages, BeforeValidator(_by_kind)]


class Entry(_Answer):
    """A job in the history."""

    status: Status
    outputs: dict[str, Annotated[list[File], Field(max_length=MOST_FILES), BeforeValidator(_files)]]


class History(RootModel[dict[str, Entry]]):
    """GET /history/{id}: the job under its id; nothing where the server does not know it or has not ended it."""


class Progress(_Answer):
    """What an event says of a job: the node that runs, and how far it is."""

    prompt_id: str
    node: Line | None = None
    value: Annotated[FiniteFloat, Field(ge=0, le=1e9)] = 0.0
    max: Annotated[FiniteFloat, Field(ge=0, le=1e9)] = 1.0


class Event(_Answer):
    """A message of the websocket that is about a job."""

    type: str
    data: Progress
