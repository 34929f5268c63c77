"""What comes from a server is of a known form, or refused at the door."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hostile import at
from pydantic import BaseModel

from firstframe.errors import printable
from firstframe.queue.answers import Accepted, Entry, Event, History, Queued, Stored, one_line, read
from firstframe.queue.errors import ServerTroubleError
from firstframe.queue.results import job_result, refusal

FILE = {"filename": "a.mp4", "subfolder": "clips/new", "type": "output", "format": "video/mp4"}
START, SUCCESS = ["execution_start", {"timestamp": 1}], ["execution_success", {"prompt_id": "x", "timestamp": 3}]
ERROR = {"node_id": "1", "node_type": "Make", "exception_type": "E", "exception_message": "no", "traceback": []}
OUTPUTS = {"2": {"images": [FILE], "animated": [True]}, "3": {"text": ["a"]}}
TRUE: dict[str, tuple[type[BaseModel], Any]] = {
    "queue": (Queued, {"queue_running": [[1, "x", {}, {}, []]], "queue_pending": [[2, "y", {}, {}, [], {}]]}),
    "accepted": (Accepted, {"prompt_id": "x", "number": 1, "node_errors": {}}),
    "refused": (
        Accepted,
        {
            "error": {"type": "t", "message": "m", "details": "d", "extra_info": {}},
            "node_errors": {"8": {"class_type": "K", "errors": [{"message": "m", "details": "d"}]}},
        },
    ),
    "stored": (Stored, {"name": "a.png", "subfolder": "", "type": "input"}),
    "done": (History, {"x": {"prompt": [], "outputs": OUTPUTS, "status": {"messages": [START, SUCCESS]}, "meta": {}}}),
    "failed": (History, {"x": {"outputs": {}, "status": {"messages": [START, ["execution_error", ERROR]]}}}),
    "event": (Event, {"type": "progress", "data": {"prompt_id": "x", "node": "1", "value": 1, "max": 2}}),
}
TYPED = {
    "queue": ["queue_running", "queue_pending", "queue_running.0", "queue_running.0.1", "queue_pending.0.1"],
    "accepted": ["prompt_id", "node_errors"],
    "refused": [
        "error.message",
        "error.details",
        "node_errors.8",
        "node_errors.8.class_type",
        "node_errors.8.errors",
        "node_errors.8.errors.0",
        "node_errors.8.errors.0.message",
    ],
    "stored": ["name"],
    "done": [
        "x",
        "x.status",
        "x.status.messages",
        "x.status.messages.0",
        "x.status.messages.0.0",
        "x.status.messages.1.1",
        "x.status.messages.1.1.timestamp",
        "x.outputs",
        "x.outputs.2",
        "x.outputs.2.images.0.filename",
        "x.outputs.2.images.0.subfolder",
        "x.outputs.2.images.0.type",
    ],
    "failed": [f"x.status.messages.1.1.{name}" for name in ERROR if name != "traceback"],
    "event": ["type", "data", "data.prompt_id", "data.value", "data.max"],
}
WRONG: tuple[Any, ...] = (7.5, True, [7], {"a": 7}, [[7]], float("nan"))


@pytest.mark.parametrize("name", TRUE)
def test_true_answers_come_in(name: str) -> None:
    kind, answer = TRUE[name]
    assert read(kind, json.dumps(answer))


@pytest.mark.parametrize(("name", "path"), [(name, path) for name, paths in TYPED.items() for path in paths])
def test_another_type_in_any_field_is_refused(name: str, path: str) -> None:
    kind, answer = TRUE[name]
    for wrong in (*WRONG, None):
        if not fits(name, path, wrong):
            with pytest.raises(ServerTroubleError):
                read(kind, json.dumps(at(path, wrong)(copy.deepcopy(answer))))


def fits(name: str, path: str, value: Any) -> bool:
    """Whether a value of ``WRONG`` is none here."""
    number = path.endswith(("timestamp", "value", "max")) and value == 7.5 and value is not True
    return number or (path == "x.outputs.2" and isinstance(value, dict))


@pytest.mark.parametrize("path", ["queue_running", "queue_pending"])
def test_a_missing_field_is_refused_and_named(path: str) -> None:
    answer = {name: value for name, value in TRUE["queue"][1].items() if name != path}
    with pytest.raises(ServerTroubleError, match=f"{path}: Field required"):
        read(Queued, json.dumps(answer))


@pytest.mark.parametrize(
    "name", ["../a.mp4", "/a.mp4", "C:\\a.mp4", "a/b.mp4", "a\\b.mp4", "..", ".", "", "a\x00.mp4", "\x1b[2J", "x" * 256]
)
def test_a_name_that_leaves_its_folder_is_refused(name: str) -> None:
    kind, answer = TRUE["done"]
    with pytest.raises(ServerTroubleError, match="filename"):
        read(kind, json.dumps(at("x.outputs.2.images.0.filename", name)(copy.deepcopy(answer))))


@pytest.mark.parametrize("folder", ["..", "a/../../b", "/etc", "C:\\x", "a\\..\\..\\b", "\x1b[2J"])
def test_a_folder_that_leads_out_is_refused(folder: str) -> None:
    kind, answer = TRUE["done"]
    with pytest.raises(ServerTroubleError, match="subfolder"):
        read(kind, json.dumps(at("x.outputs.2.images.0.subfolder", folder)(copy.deepcopy(answer))))


def places(answer: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = answer.items() if isinstance(answer, dict) else enumerate(answer) if isinstance(answer, list) else ()
    for key, value in items:
        yield from places(value, (*path, key))


def damaged(chance: random.Random, answer: Any) -> bytes:
    """An answer in which some values are others, or some bytes."""
    answer = copy.deepcopy(answer)
    for _ in range(chance.randint(0, 3)):
        path = chance.choice(list(places(answer))[1:])
        parent = answer
        for key in path[:-1]:
            parent = parent[key]
        parent[path[-1]] = copy.deepcopy(chance.choice([*WRONG, None, "", "x", -1, 1e300, {}, [], "\x1b[2J", answer]))
    content = bytearray(json.dumps(answer).encode())
    for _ in range(chance.randint(0, 2)):
        content[chance.randrange(len(content))] = chance.randrange(256)
    return bytes(content[: chance.choice([None, len(content) // 2])])


@pytest.mark.parametrize("name", TRUE)
def test_damaged_answers_are_refused_or_mean_something(name: str) -> None:
    kind, answer = TRUE[name]
    chance = random.Random(name)
    refused = 0
    for _ in range(500):
        try:
            came = read(kind, damaged(chance, answer))
        except ServerTroubleError as error:
            refused += 1
            assert str(error).isprintable() and len(str(error)) < 500
            continue
        if isinstance(came, History):
            for entry in came.root.values():
                assert isinstance(entry, Entry) and job_result(entry).seconds < float("inf")
        if isinstance(came, Accepted):
            refusal(came)
    assert 0 < refused < 500


def test_one_line() -> None:
    assert one_line(" a\n  b\x1b[31m\x00 ") == r"a b\x1b[31m\x00"
    assert len(one_line("x" * 10_000)) == 2000


@pytest.mark.parametrize("text", ["plain, ä, 图像, 🐟", ""])
def test_what_has_a_glyph_is_printed_as_it_is(text: str) -> None:
    assert printable(text) == text


def test_what_has_none_is_escaped() -> None:
    assert printable("a\x1b[0m\x9b\u202e\ud800\n\t") == r"a\x1b[0m\x9b\u202e\ud800\n\t"
