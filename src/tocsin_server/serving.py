"""Listening: where the server may be reached, what it leaves for the command line, and how it stops."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from tocsin_server.app import opened
from tocsin_server.client import RUN_FILE
from tocsin_server.clock import Clock
from tocsin_server.config import Listen, Settings
from tocsin_server.errors import TocsinError
from tocsin_server.web import create_app

#: Requests that run get this long to finish when the server is told to stop, in seconds.
_GRACE_S = 5
_MOST_CONNECTIONS = 256
#: A client that sends is looked at this often, in seconds, and closed when it was too slow so many times.
_LOOK_S, _SLOW_LOOKS = 5.0, 2
_LEAST_BYTES = int(_LOOK_S * 1024)


def serve(
    settings: Settings,
    folder: Path,
    clock: Clock,
    *,
    host: str | None = None,
    port: int | None = None,
    say: Callable[[str], None],
    start_at: int | None = None,
    ready: Callable[[str], None] = lambda _url: None,
) -> None:
    """Runs the installation in ``folder`` until SIGTERM or SIGINT (row D13); call it in the main thread.

    ``host`` and ``port`` override the settings, port 0 takes a free one. ``ready`` is told the URL. Raises
    TocsinError when the address may not or cannot be used.
    """
    listen = settings.listen.model_copy(
        update={name: value for name, value in (("host", host), ("port", port)) if value is not None}
    )
    check_address(listen)
    with closing(_socket(listen)) as server:
        bound = listen.model_copy(update={"port": server.getsockname()[1]})
        settings = settings.model_copy(update={"listen": bound})
        url = f"http://{_in_url(bound.host)}:{bound.port}"
        with opened(settings, folder, clock, start_at) as installation, _stops():
            app = create_app(installation.services())
            installation.start()
            try:
                with _run_file(folder, url, installation.operator_token):
                    say(f"Tocsin is at {url}, its data in {folder}; Ctrl-C stops it")
                    ready(url)
                    _web_server(app).run(sockets=[server])
            finally:
                installation.stop()


def check_address(listen: Listen) -> None:
    """Raises TocsinError for an address beyond this machine without a token (row O2)."""
    if listen.token is None and not is_loopback(listen.host):
        raise TocsinError(
            f"{listen.host} can be reached from other machines, and no token is set: "
            "add `listen: {token: {env: TOCSIN_TOKEN}}` to tocsin.yaml, or listen on 127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    """Whether an address, or the name localhost, is this machine's alone."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _socket(listen: Listen) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(
            listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        server = socket.socket(family, socket.SOCK_STREAM)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(address)
        server.listen(
            _MOST_CONNECTIONS
        )  # who reads run.json at once waits for the web server, and is not refused
    except OSError as error:
        raise TocsinError(
            f"cannot listen on {listen.host}:{listen.port} ({error.strerror or error}): choose another --port"
        ) from None
    return server


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


class Connection(H11Protocol):
    """A connection whose client must get on with what it sends: two times in a row less than a kibibyte a
    second, and it is closed (row I7). Else a few hundred silent clients would shut everybody out.
    """

    _received = _slow = 0
    _next_look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Begins to watch."""
        super().connection_made(transport)
        self._look_later()

    def data_received(self, data: bytes) -> None:
        """Counts."""
        self._received += len(data)
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the watch."""
        if self._next_look is not None:
            self._next_look.cancel()
        super().connection_lost(exc)

    def _look_later(self) -> None:
        self._received = 0
        self._next_look = self.loop.call_later(_LOOK_S, self._look)

    def _look(self) -> None:
        self._slow = self._slow + 1 if self._is_awaited() and self._received < _LEAST_BYTES else 0
        if self._slow < _SLOW_LOOKS:
            self._look_later()
        else:
            self.transport.close()

    def _is_awaited(self) -> bool:
        """Whether the next bytes are the client's; between two requests the keep-alive time holds."""
        sends = self.conn.their_state in (h11.IDLE, h11.SEND_BODY) and not self.flow.read_paused
        return sends and self.timeout_keep_alive_task is None


def _web_server(app: FastAPI) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=Connection,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=_GRACE_S,
            ws="none",
        )
    )


@contextmanager
def _stops() -> Iterator[None]:
    """Being told to stop is no error: uvicorn raises the signals again when it is done."""

    def told(_number: int, _frame: FrameType | None) -> None:
        pass

    before = {number: signal.signal(number, told) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _run_file(folder: Path, url: str, token: str) -> Iterator[None]:
    """Leaves address and operator's token for the command line, readable by the folder's owner only."""
    path = folder / RUN_FILE
    written = path.with_suffix(".new")
    written.unlink(missing_ok=True)
    fd = os.open(written, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with open(fd, "w") as file:
        json.dump({"url": url, "token": token, "pid": os.getpid()}, file)
    written.rename(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
