"""What the user sees: a bar for each server and one for all; a line for each job that has ended."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.markup import escape as escape_markup
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..errors import printable


class Bars:
    """A `run.View` on the terminal. Where the output is none, there are lines only."""

    def __init__(self, servers: Iterable[str], jobs: int) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()]
        self._progress = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._servers = {server: self._progress.add_task(_shown(server), total=1) for server in servers}
        self._all = self._progress.add_task("all jobs", total=jobs)
        self._ended, self._jobs = 0, jobs

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def working(self, server: str, job: str, node: str, value: float, of: float) -> None:
        """Where a server is in the node that it runs."""
        told = _shown(f"{server}  {job}  {node}")
        self._progress.update(self._servers[server], description=told, completed=value, total=of)

    def ended(self, job: str, event: dict[str, Any]) -> None:
        """A job is done or has failed."""
        self._ended += 1
        self._progress.update(self._all, completed=self._ended)
        server = event["server"]
        self._progress.update(self._servers[server], description=_shown(server), completed=0, total=1)
        done = event["event"] == "done"
        told = f"{event['seconds']:.1f} s" if done else event["reason"]
        line = f"{event['event']:6} {self._ended}/{self._jobs}  {job}  {server}  {told}"
        self._console.print(_shown(line), style=None if done else "red")

    def note(self, text: str) -> None:
        """Something else that the user should know."""
        self._console.print(_shown(text), style="yellow")


def _shown(text: str) -> str:
    """Text of servers and files as it is: neither rich nor the terminal takes anything in it for a command."""
    return escape_markup(printable(text))
