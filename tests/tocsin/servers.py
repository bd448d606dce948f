"""Real servers for tests: wsgiref and uvicorn in a thread, gunicorn as a process; and clients for them."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import uvicorn

PATIENCE_S = 20.0


def wait_for(condition: Callable[[], Any]) -> Any:
    """What ``condition`` returns once it is true."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.01)
    raise AssertionError("waited in vain")


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None: ...


@contextmanager
def wsgi_server(app: Any) -> Iterator[int]:
    """Serves a WSGI application with wsgiref; yields the port."""
    with WSGIServer(("127.0.0.1", 0), _Silent) as server:
        server.set_app(app)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def asgi_server(app: Any) -> Iterator[int]:
    """Serves an ASGI application with uvicorn; yields the port."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=2))
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=lambda: loop.run_until_complete(server.serve(sockets=[listener])))
    thread.start()
    try:
        wait_for(lambda: server.started)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        loop.close()
        listener.close()


@contextmanager
def gunicorn(app: str, output: Path, **environment: str) -> Iterator[int]:
    """Runs ``gunicorn APP``, whose standard output goes to a file; yields the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--workers", "1", app]
    with output.open("wb") as stdout, output.with_suffix(".err").open("wb") as stderr:
        process = subprocess.Popen(
            command, stdout=stdout, stderr=stderr, cwd=Path(__file__).parents[2], env=os.environ | environment
        )
        try:
            wait_for(lambda: _accepts(port))
            yield port
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def get(port: int, path: str, **headers: str) -> bytes:
    """The whole answer to a GET, headers included."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as connection:
        connection.sendall(_request(path, headers))
        return b"".join(iter(lambda: connection.recv(65536), b""))


def leave_early(port: int, path: str) -> None:
    """Asks for ``path``, reads the beginning of the answer and hangs up."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as connection:
        connection.sendall(_request(path, {}))
        connection.recv(1024)


def _request(path: str, headers: dict[str, str]) -> bytes:
    given = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{given}\r\n".encode()
