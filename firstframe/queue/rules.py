"""How a queue is worked off, and who is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from .events import Event


class View(Protocol):
    """Where the user sees how it goes."""

    def working(self, server: str, job: str, node: str, value: float, of: float) -> None:
        """A server is at ``value`` of ``of`` in the node that it runs."""

    def ended(self, job: str, event: Event) -> None:
        """A job is done or has failed."""

    def note(self, text: str) -> None:
        """Something else that the user should know."""


@dataclass(frozen=True)
class Rules:
    """How a queue is worked off.

    Attributes:
        in_flight: Jobs that one server has at a time.
        attempts: How often a job is sent at most, where servers die or lose it.
        give_up: Seconds without any server.
        poll: Seconds after which a job is asked for although no event came.
    """

    in_flight: int = 2
    attempts: int = 3
    give_up: float = 60.0
    poll: float = 5.0
