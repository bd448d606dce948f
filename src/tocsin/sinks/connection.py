"""An HTTP connection on which a hostile server can neither fill the memory nor hold the thread."""

from __future__ import annotations

import io
import socket
import ssl
from collections.abc import Callable
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import SplitResult

#: Most bytes of an answer, its head included.
ANSWER_BYTES = 64 * 1024


class Left:
    """How long the next socket operation may take; raises TimeoutError when the time is over."""

    def __init__(self, end: float, timeout_s: float, monotonic: Callable[[], float]) -> None:
        self._end, self._timeout_s, self._monotonic = end, timeout_s, monotonic

    def __call__(self) -> float:
        """Seconds."""
        left = self._end - self._monotonic()
        if left <= 0:
            raise TimeoutError("out of time")
        return min(left, self._timeout_s)


class _Answer(io.RawIOBase):
    """A socket's incoming bytes, bounded in number and in time: every read may take what is left."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, left: Left) -> None:
        self._raw, self._sock, self._left = raw, sock, left
        self._room = ANSWER_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._left())
        count: int | None = self._raw.readinto(memoryview(buffer)[: self._room + 1])
        self._room -= count or 0
        if self._room < 0:
            raise OSError("the answer is too long")
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class Connection(HTTPConnection):
    """A connection whose answers are bounded; ``left`` is set before each request."""

    left: Left
    idle_since: float

    def response_class(self, sock: socket.socket, *args: Any, **kwargs: Any) -> HTTPResponse:  # type: ignore[override]
        """A response that reads through :class:`_Answer`."""
        response = HTTPResponse(sock, *args, **kwargs)
        response.fp = io.BufferedReader(_Answer(response.fp.detach(), sock, self.left))
        return response


class _TlsConnection(HTTPSConnection, Connection):
    """The same over TLS."""


def connect(url: SplitResult, context: ssl.SSLContext | None, left: Left) -> Connection:
    """Connects to the host of ``url``. Raises OSError."""
    host, tls = str(url.hostname), url.scheme == "https"
    connection: Connection
    if tls:
        connection = _TlsConnection(host, url.port or 443, timeout=left(), context=context)
    else:
        connection = Connection(host, url.port or 80, timeout=left())
    connection.connect()
    return connection
