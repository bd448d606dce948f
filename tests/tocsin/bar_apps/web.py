"""A WSGI and an ASGI application that emit when imported, for each request, and as their last act."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable
from typing import Any

import tocsin
from tocsin.instrumentation.asgi import RequestMiddleware

tocsin.configure(service="k12-core")
tocsin.emit("imported", worker=os.getpid())


def _request(number: bytes | str) -> None:
    tocsin.emit("began", number=int(number), worker=os.getpid())
    tocsin.log("INFO", "request", number=int(number), detail={"pages": [1, 2, 3]})
    tocsin.emit("ended", number=int(number), worker=os.getpid())
    for i in range(int(os.environ.get("EXTRA_EVENTS", "0"))):
        tocsin.emit("extra", i=i)


def _last() -> None:
    tocsin.emit("last", worker=os.getpid())


def wsgi(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Its last act is in ``atexit``."""
    if not _exits:
        _exits.append(atexit.register(_last))
    _request(environ["QUERY_STRING"])
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


_exits: list[object] = []


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """Its last act is in the lifespan: servers end the process with the signal, without ``atexit``."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        _last()
        await send({"type": "lifespan.shutdown.complete"})
        return
    _request(scope["query_string"])
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


#: What flushes at the end of the lifespan.
instrumented = RequestMiddleware(asgi)
