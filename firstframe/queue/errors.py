"""What can go wrong with a server, and with a job."""

from __future__ import annotations

from typing import Any

from ..errors import FirstFrameError


class ServerTroubleError(FirstFrameError):
    """One request failed for a reason that is not about the job: no connection, status 5xx, an answer that is not
    ComfyUI's. Another try may succeed."""


class ServerGoneError(FirstFrameError):
    """A server that cannot be reached, or does not answer as it should, after all tries."""


class LostError(FirstFrameError):
    """The server does not know a job that it was sent."""


class JobFailedError(FirstFrameError):
    """The server says that this job cannot be done. Sending it again would not help.

    Attributes:
        facts: What the manifest says besides the reason: ``node_id`` and ``node_type``, where a node is meant.
    """

    def __init__(self, reason: str, **facts: Any) -> None:
        super().__init__(reason)
        self.facts = facts
