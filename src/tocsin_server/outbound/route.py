"""The way there: names resolved, every address checked, and a connection that ends before the deadline."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import httpcore

from tocsin_server.outbound.addresses import literal, refusal
from tocsin_server.outbound.failures import RequestFailed, refused
from tocsin_server.outbound.target import Target

#: (host, port) -> the addresses of a host. Raises OSError or UnicodeError when it has none.
Resolver = Callable[[str, int], Sequence[str]]
T = TypeVar("T")


def system_addresses(host: str, port: int) -> list[str]:
    """What the machine's resolver says; it also reads ``2130706433`` and ``0x7f.1`` as 127.0.0.1."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Route(httpcore.NetworkBackend):
    """Resolves, checks every address, and connects to one that was checked; all before the deadline."""

    def __init__(
        self,
        target: Target,
        deadline: float,
        timeout_s: float,
        private_hosts: frozenset[str],
        resolve: Resolver,
    ) -> None:
        self._target = target
        self._deadline = deadline
        self._timeout_s = timeout_s
        self._private_hosts = private_hosts
        self._resolve = resolve

    def remaining(self) -> float:
        """Seconds until the deadline. Raises RequestFailed when it has passed."""
        seconds = self._deadline - time.monotonic()
        if seconds <= 0:
            raise self.late()
        return seconds

    def late(self) -> RequestFailed:
        """The failure of a request that takes too long."""
        return RequestFailed("timeout", f"{self._target.where} did not answer within {self._timeout_s:g} s")

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """httpcore's question for a connection; the deadline stands for ``timeout``."""
        addresses = self._addresses(host, port)
        reason = refusal(host, addresses, self._private_hosts)
        if reason:
            raise refused(reason)
        problem: OSError = OSError("it has no address")
        for index, address in enumerate(addresses):
            try:
                share = self.remaining() / (len(addresses) - index)
                return _Stream(socket.create_connection((address, port), share), self)
            except OSError as error:
                problem = error
        self.remaining()
        if isinstance(problem, TimeoutError):
            raise self.late()
        raise httpcore.ConnectError(problem.strerror or str(problem))

    def _addresses(self, host: str, port: int) -> Sequence[str]:
        if literal(host):
            return [host]
        try:
            return _within(self.remaining(), lambda: self._resolve(host, port))
        except TimeoutError:
            raise self.late() from None
        except (OSError, UnicodeError) as error:
            raise RequestFailed("dns", f"{host} has no address: {error}; check the name") from None


def _within(seconds: float, ask: Callable[[], T]) -> T:
    """``ask()`` in a thread that is left behind when it takes longer: a look-up cannot be interrupted.

    Raises TimeoutError, or what ``ask`` raised.
    """
    answer: Future[T] = Future()

    def work() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:  # for the thread that waits
            answer.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return answer.result(seconds)


class _Stream(httpcore.NetworkStream):
    """A connected socket whose every operation ends before the deadline of its route."""

    def __init__(self, connected: socket.socket, route: Route) -> None:
        self._socket = connected
        self._route = route

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with self._before_the_deadline(httpcore.ReadError):
            return self._socket.recv(max_bytes)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        while buffer:
            with self._before_the_deadline(httpcore.WriteError):
                buffer = buffer[self._socket.send(buffer) :]

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        try:
            with self._before_the_deadline(httpcore.ConnectError):
                secured = ssl_context.wrap_socket(self._socket, server_hostname=server_hostname)
        except BaseException:
            self.close()
            raise
        return _Stream(secured, self._route)

    def close(self) -> None:
        self._socket.close()

    def get_extra_info(self, info: str) -> Any:
        return None

    @contextlib.contextmanager
    def _before_the_deadline(self, failed: type[Exception]) -> Iterator[None]:
        self._socket.settimeout(self._route.remaining())
        try:
            yield
        except TimeoutError:
            raise self._route.late() from None
        except ssl.SSLError:
            raise
        except OSError as error:
            raise failed(error.strerror or str(error)) from None
