"""Lines to a Tocsin collector over HTTP, for applications whose standard output nobody collects.

    tocsin.configure(sink=HttpSink("https://tocsin.example.org", token=os.environ["TOCSIN_TOKEN"]))

A batch is tried for ten seconds and then given up: what waits meanwhile is bounded by the emitter's queue.
Every try carries the same Idempotency-Key, so a batch whose answer was lost is not taken twice.
"""

from __future__ import annotations

import gzip
import ipaddress
import os
import random
import re
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPException
from typing import Any
from urllib.parse import SplitResult, urlsplit

import orjson

from tocsin.errors import ConfigurationError
from tocsin.guard import GUARD, complain
from tocsin.sinks.connection import Connection, Left, connect

#: Most bytes of one request before compression.
BATCH_BYTES = 512 * 1024
#: How long one call may take: all its tries, and the waiting between them.
TOTAL_S = 10.0
#: Waits between tries: doubling from the first to the longest, each cut by up to half at random.
FIRST_WAIT_S, LONGEST_WAIT_S = 0.25, 4.0
#: A connection that was idle for longer is not used again: servers close theirs after five seconds.
IDLE_S = 4.0

#: Statuses that mean: try again, beside all from 500 on.
_TRY_AGAIN = frozenset((408, 425, 429))
_TOKEN = re.compile(r"[\x21-\x7e]+")


class CollectorError(OSError):
    """The collector did not take ``lost_lines`` of the lines; its cause says why."""

    def __init__(self, lost_lines: int) -> None:
        """``lost_lines`` were not taken."""
        super().__init__(f"the collector did not take {lost_lines} lines")
        self.lost_lines = lost_lines


class RefusedError(Exception):
    """The collector's answer: it will not take this batch, however often it is sent."""


class UnavailableError(Exception):
    """The collector's answer: not now. ``wait_s`` is how long it asks to wait."""

    def __init__(self, message: str, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.wait_s = wait_s


#: What another try may help against.
_TRANSIENT = (OSError, HTTPException, UnavailableError)


class HttpSink:
    """Posts lines to the collector at ``url``, gathered for a second.

    ``token`` is the server's; ``timeout_s`` bounds each socket operation, ten seconds the whole call;
    ``ssl_context`` replaces the default one, which verifies the certificate. Redirects are not followed and
    proxy variables are ignored. Raises :class:`tocsin.errors.ConfigurationError` for a wrong address or
    token. Opens nothing before the first line; a forked process opens a connection of its own.

    A call raises :class:`CollectorError` if not all lines were taken. Those that the collector took and then
    found malformed are counted.
    """

    linger_s = 1.0
    #: Few enough that an answer which refuses every single line stays below ``ANSWER_BYTES``.
    batch_lines = 1000

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout_s: float = 2.0,
        ssl_context: ssl.SSLContext | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._url = _checked(url, token)
        self._headers = {
            "Content-Type": "application/x-ndjson",
            "Content-Encoding": "gzip",
            **({"Authorization": f"Bearer {token}"} if token else {}),
        }
        self._timeout_s = timeout_s
        self._ssl_context = ssl_context
        self._monotonic = monotonic
        self._sleep = sleep
        self._complained: set[str] = set()
        self._connection: Connection | None = None
        self._pid = os.getpid()

    def __call__(self, lines: Sequence[bytes]) -> None:
        """Sends the lines, in order."""
        end = self._monotonic() + TOTAL_S
        taken = 0
        try:
            for batch in _batches(lines):
                self._deliver(batch, end)
                taken += len(batch)
        except (*_TRANSIENT, RefusedError) as error:
            raise CollectorError(len(lines) - taken) from error

    def without_waiting(self, lines: Sequence[bytes]) -> None:
        """There is no sending without waiting: where the emitter has no thread, the lines are lost."""
        raise CollectorError(len(lines))

    def close(self) -> None:
        """Closes the connection; the next line opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _deliver(self, lines: list[bytes], end: float) -> None:
        """Tries until the batch is taken, refused for good, or out of time."""
        body = gzip.compress(b"".join(lines), compresslevel=1)
        headers = {**self._headers, "Idempotency-Key": os.urandom(16).hex()}
        wait_s = FIRST_WAIT_S
        while True:
            try:
                return self._try(body, headers, end)
            except _TRANSIENT as error:
                self.close()
                if not self._pause(max(wait_s * random.uniform(0.5, 1.0), getattr(error, "wait_s", 0)), end):  # noqa: S311
                    raise
            except RefusedError as error:
                self.close()
                self._complain(str(error))
                raise
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    def _pause(self, wait_s: float, end: float) -> bool:
        """Waits, at most to the end: an overloaded collector gets its rest. Whether there is time left."""
        left_s = end - self._monotonic()
        self._sleep(max(0.0, min(wait_s, left_s)))
        return wait_s < left_s

    def _try(self, body: bytes, headers: dict[str, str], end: float) -> None:
        connection = self._connected(end)
        connection.request("POST", f"{self._url.path.rstrip('/')}/api/v1/ingest", body, headers)
        answer = connection.getresponse()
        if answer.status != 200:
            raise _refusal(answer.status, answer.getheader("Retry-After", ""))
        result = _result(answer.read())
        connection.idle_since = self._monotonic()
        self._complained.clear()
        if rejected := len(result["rejected"]):
            GUARD.failed("rejected", lines=rejected)

    def _connected(self, end: float) -> Connection:
        """The connection of this process, ready for a request that has to be over at ``end``."""
        idle_since = self._connection.idle_since if self._connection else 0.0
        if self._pid != os.getpid() or self._monotonic() - idle_since > IDLE_S:
            self.close()
            self._pid = os.getpid()
        left = Left(end, self._timeout_s, self._monotonic)
        if self._connection is None or self._connection.sock is None:  # None: the server wanted it closed
            self._connection = connect(self._url, self._tls(), left)
            self._connection.idle_since = self._monotonic()
        self._connection.left = left
        self._connection.sock.settimeout(left())
        return self._connection

    def _tls(self) -> ssl.SSLContext | None:
        if self._ssl_context is None and self._url.scheme == "https":
            self._ssl_context = ssl.create_default_context()  # once: it reads all certificates of the machine
        return self._ssl_context

    def _complain(self, what: str) -> None:
        """Once for each kind of trouble, until a batch is taken again."""
        if what not in self._complained:
            self._complained.add(what)
            complain(f"{self._url.hostname}: {what}; lines are lost")


def _batches(lines: Sequence[bytes]) -> Iterator[list[bytes]]:
    """The lines in lists of at most ``BATCH_BYTES``."""
    batch: list[bytes] = []
    size = 0
    for line in lines:
        if batch and size + len(line) > BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(line)
        size += len(line)
    if batch:
        yield batch


# --- the address ----------------------------------------------------------------------------------------


def _checked(url: str, token: str | None) -> SplitResult:
    faults = []
    try:
        parts = urlsplit(url)
        host = parts.hostname if parts.port != 0 else None
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not host or not url.isascii() or not url.isprintable():
        faults.append("HttpSink: url must be such as https://tocsin.example.org")
    elif parts.username is not None or parts.query or parts.fragment or " " in url:
        faults.append("HttpSink: url must have no user, query or fragment; give the token as token")
    if token is not None and not _TOKEN.fullmatch(token):
        faults.append("HttpSink: token must be printable ASCII without spaces")
    if faults:
        raise ConfigurationError(faults)
    if token and parts.scheme == "http" and not _private(str(host)):
        complain(f"the token goes to {host} in plain text: use https")
    return parts


def _private(host: str) -> bool:
    """Whether a host is on this machine or in a private network, as far as its name tells."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith((".internal", ".local", ".localhost"))


# --- the answer -----------------------------------------------------------------------------------------


def _refusal(status: int, retry_after: str) -> RefusedError | UnavailableError:
    if status in _TRY_AGAIN or status >= 500:
        asked = retry_after if retry_after.isdecimal() and len(retry_after) < 6 else "0"
        return UnavailableError(f"the collector answered {status}", float(asked))
    if status in (401, 403):
        return RefusedError(f"the collector refused the token ({status})")
    return RefusedError(f"the collector answered {status}")


def _result(body: bytes) -> dict[str, Any]:
    """The answer to a batch that was taken. Raises UnavailableError if something else answered 200."""
    try:
        result = orjson.loads(body)
        if isinstance(result, dict) and isinstance(result["rejected"], list):
            return result
    except (ValueError, KeyError):
        pass
    raise UnavailableError("the answer is not a collector's")
