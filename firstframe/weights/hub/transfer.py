"""One file over HTTP: what has arrived stays, and only the rest is asked for (RFC 9110: Range, If-Range, ETag)."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import requests
from requests.auth import AuthBase
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter
from tqdm.auto import tqdm
from urllib3.exceptions import HTTPError

from ...errors import WeightsError, printable
from .partial import Partial

_CHUNK = 1 << 20
_CONNECT_SECONDS = 10.0
_PROGRESS = 1 << 20  # bytes that a round of tries must bring for another round
_MOST_REDIRECTS = 5
_LATER = (408, 425, 429)  # with 5xx: statuses of a server that may answer later


class TransferError(WeightsError):
    """A source does not give the file. Another one may."""


class _BrokenError(TransferError):
    """A try failed. The next one may succeed."""


@dataclass(frozen=True)
class Patience:
    """With a source that fails.

    Attributes:
        tries: How often a file is asked for without getting any further.
        first_wait: Seconds before the second try; each further wait is twice as long.
        silence: Seconds without a byte.
        rate: Bytes per second on average, after the first ``silence`` seconds.
    """

    tries: int = 4
    first_wait: float = 1.0
    silence: float = 30.0
    rate: float = 1000.0


class _Bearer(AuthBase):
    """A token for the address that was asked for. requests takes it away where that redirects to another host."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


@contextmanager
def open_session(token: str | None) -> Iterator[requests.Session]:
    """A session that takes proxies from the environment. ``token``: of the hub's user."""
    with requests.Session() as session:
        session.headers["Accept-Encoding"] = "identity"
        session.max_redirects = _MOST_REDIRECTS
        if token:
            session.auth = _Bearer(token)
        yield session


def download(
    session: requests.Session, url: str, partial: Partial, size: int | None, patience: Patience | None = None
) -> None:
    """Bring all of the file at ``url`` into ``partial``.

    A connection that breaks is made again as long as it brings something.

    Args:
        session: From `open_session`.
        url: Of the file.
        partial: What has arrived, in this run or an earlier one.
        size: Bytes of the file, None where only its server knows.
        patience: With a server that breaks off.

    Raises:
        TransferError: The source does not have the file, has one of another size, or breaks off again and again.
        WeightsError: The disk is too small.
    """
    patience = patience or Patience()
    while True:
        before = partial.size
        try:
            return _tries(patience)(_try, session, url, partial, size, patience)
        except _BrokenError:
            if partial.size < before + _PROGRESS:
                raise


def _tries(patience: Patience) -> Retrying:
    return Retrying(
        retry=retry_if_exception_type(_BrokenError),
        stop=stop_after_attempt(patience.tries),
        wait=wait_exponential_jitter(patience.first_wait, jitter=patience.first_wait / 2),
        reraise=True,
    )


def _try(session: requests.Session, url: str, partial: Partial, size: int | None, patience: Patience) -> None:
    """One request for what is missing."""
    if size is not None and partial.size == size and partial.version(url):
        return
    try:
        timeout = (_CONNECT_SECONDS, patience.silence)
        with session.get(url, headers=_range(partial, url), stream=True, timeout=timeout) as response:
            total = _accepted(response, url, partial, size)
            _check_room(partial, total)
            _write(response, partial, total, patience)
    except HTTPError as error:
        raise _BrokenError(f"broke off after {partial.size:,} bytes") from error
    except requests.RequestException as error:
        raise _BrokenError(printable(str(error))) from error


def _range(partial: Partial, url: str) -> dict[str, str]:
    """Headers that ask for the rest, as long as it is still the same file."""
    etag = partial.version(url)
    return {"Range": f"bytes={partial.size}-", "If-Range": etag} if etag else {}


def _accepted(response: requests.Response, url: str, partial: Partial, size: int | None) -> int:
    """The size of the whole file. ``partial`` is now what the body of the answer continues."""
    if response.status_code == 200:
        total = _checked_size(response.headers.get("Content-Length"), size)
        etag = response.headers.get("ETag", "")
        partial.start_over(url, None if etag.startswith("W/") else etag)
        return total
    if response.status_code == 206:
        return _checked_size(_size_with_rest(response, partial, url), size)
    if response.status_code == 416:  # nothing after what has arrived
        partial.remove()
        raise _BrokenError("its server has another file than before")
    raise _refusal(response)


def _checked_size(told: str | None, size: int | None) -> int:
    """The size of the whole file in bytes."""
    if told is None and size is not None:
        return size
    if told is None or not re.fullmatch("[0-9]{1,15}", told):
        raise TransferError("its server does not say how large it is")
    if size is not None and int(told) != size:
        raise TransferError(f"has {int(told):,} bytes there, not {size:,}; it is another file")
    return int(told)


def _size_with_rest(response: requests.Response, partial: Partial, url: str) -> str | None:
    """The size of the whole file, from an answer with its rest."""
    found = re.fullmatch(r"bytes ([0-9]+)-[0-9]+/([0-9]+)", response.headers.get("Content-Range", ""))
    same = response.headers.get("ETag", partial.version(url)) == partial.version(url)
    if found is None or int(found[1]) != partial.size or not same:
        partial.remove()
        raise _BrokenError("its server sent another part than was asked for")
    return found[2]


def _refusal(response: requests.Response) -> TransferError:
    told = printable(f"status {response.status_code} {response.reason}".strip())
    if response.status_code in _LATER or response.status_code >= 500:
        return _BrokenError(told)
    return TransferError(f"{told}; a token in HF_TOKEN may help" if response.status_code in (401, 403) else told)


def _check_room(partial: Partial, total: int) -> None:
    free = shutil.disk_usage(partial.path.parent).free
    missing = total - partial.size - free
    if missing > 0:
        raise WeightsError(f"{partial.path.parent}: needs {missing / 1e9:.2f} GB more than there is room for")


def _write(response: requests.Response, partial: Partial, total: int, patience: Patience) -> None:
    """Append what comes."""
    begun, start = partial.size, time.monotonic()
    with partial.path.open("ab") as file, tqdm(total=total, initial=begun, unit="B", unit_scale=True) as bar:
        while chunk := response.raw.read1(_CHUNK):
            if file.tell() + len(chunk) > total:
                raise TransferError(f"sends more than the {total:,} bytes that it should have")
            file.write(chunk)
            bar.update(len(chunk))
            if time.monotonic() - start > patience.silence + (file.tell() - begun) / patience.rate:
                raise _BrokenError(f"sends less than {patience.rate:g} bytes per second")
    if partial.size < total:
        raise _BrokenError(f"broke off after {partial.size:,} of {total:,} bytes")
