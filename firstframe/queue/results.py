"""What an answer means for a job."""

from __future__ import annotations

from dataclasses import dataclass

from .answers import Accepted, Entry, ExecutionError, File
from .errors import JobFailedError


@dataclass(frozen=True)
class JobResult:
    """How a job ended.

    Attributes:
        files: What it made.
        failure: Why it made nothing.
        seconds: How long the server was at it.
    """

    files: list[File]
    failure: JobFailedError | None
    seconds: float = 0.0


def job_result(entry: Entry) -> JobResult:
    """An entry of the history. Also where everything was remembered from an earlier run, it lists the files."""
    messages = entry.status.messages
    if messages.execution_error:
        return JobResult([], _execution_error(messages.execution_error))
    if not messages.execution_success:
        return JobResult([], JobFailedError("interrupted at the server"))
    files = _wanted(entry)
    began = messages.execution_start or messages.execution_success
    seconds = (messages.execution_success.timestamp - began.timestamp) / 1000
    return JobResult(files, None if files else JobFailedError("it ended well, but no node saved a file"), seconds)


def refusal(answer: Accepted) -> JobFailedError | None:
    """What a server said to a graph that it does not take, or takes in part only; None where it takes all of it."""
    reasons = [
        f"node {node} ({found.class_type}): {error.message}: {error.details}"
        for node, found in answer.node_errors.items()
        for error in found.errors
    ]
    if reasons:
        node, found = next(iter(answer.node_errors.items()))
        return JobFailedError("; ".join(reasons), node_id=node, node_type=found.class_type)
    return JobFailedError(f"{answer.error.message} {answer.error.details}".strip()) if answer.error else None


def _execution_error(error: ExecutionError) -> JobFailedError:
    reason = f"node {error.node_id} ({error.node_type}): {error.exception_type}: {error.exception_message}"
    return JobFailedError(reason, node_id=error.node_id, node_type=error.node_type)


def _wanted(entry: Entry) -> list[File]:
    """What nodes saved, in the order of their ids: outputs, or else the previews."""
    files = [file for _, output in sorted(entry.outputs.items()) for file in output]
    return [file for file in files if file.type == "output"] or files
