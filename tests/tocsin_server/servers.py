"""Real servers on a loopback port, for the tests of whatever asks over HTTP."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Reply = Callable[[BaseHTTPRequestHandler], None]


@contextlib.contextmanager
def serving(reply: Reply) -> Iterator[str]:
    """The base URL of a server that answers every request with ``reply``."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            with contextlib.suppress(OSError):
                reply(self)

        def log_message(self, *_: object) -> None:
            pass

    for method in ("GET", "HEAD", "OPTIONS", "POST"):
        setattr(Handler, f"do_{method}", Handler.answer)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def listening(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    """The port of a TCP server that handles one connection with ``talk``."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)

        def work() -> None:
            with contextlib.suppress(OSError):
                connection, _ = server.accept()
                with connection:
                    connection.settimeout(10)
                    with contextlib.suppress(OSError):
                        talk(connection)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            with contextlib.suppress(OSError):
                socket.create_connection(server.getsockname(), 1).close()
            thread.join()


def reply(status: int = 200, body: bytes = b"{}", **headers: str) -> Reply:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)

    return answer
