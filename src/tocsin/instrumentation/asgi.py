"""``RequestMiddleware``: `api.request` of any ASGI application (Starlette, FastAPI, Litestar, …).

A request is printed when its answer is complete: a background task that runs afterwards neither lengthens nor
fails it. Only an answer of 500 or more waits for the exception that a framework raises behind it. Of the
headers, X-Request-ID and traceparent are read; query and bodies are not looked at.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any

from tocsin import context
from tocsin.emitter import emit_request, flush, monotonic_ns
from tocsin.guard import GUARD
from tocsin.instrumentation.asgi_routing import Scope, answered_by
from tocsin.instrumentation.http import (
    CLIENT_CLOSED,
    FIELDS_KEY,
    REQUEST_ID_HEADER,
    elapsed_ms,
    is_probe,
    known_method,
)
from tocsin.trace import child, parse_traceparent, request_id

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_REQUEST_ID = REQUEST_ID_HEADER.lower().encode()


class RequestMiddleware:
    """Wraps an ASGI application and prints each HTTP request that it has answered.

    ``app.add_middleware(RequestMiddleware)`` in Starlette and FastAPI, or ``RequestMiddleware(app)`` around
    any application. X-Request-ID and traceparent are taken or made, and bound for all that the request
    prints; X-Request-ID is returned. An exception that escapes is status 500 whatever was sent, and goes on;
    a client that leaves before the answer is complete is 499. WebSockets have an id but are not counted.
    """

    def __init__(self, app: Application, *, probe_paths: Collection[str] = ()) -> None:
        """``probe_paths`` are marked as probes besides the usual `/up`, `/healthz`, `/api/v1/health`, …"""
        self.app = app
        self._probe_paths = frozenset(probe_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection."""
        kind = scope["type"]
        if kind == "lifespan":
            await self.app(scope, receive, _flushing(send))
        elif FIELDS_KEY in scope or kind not in ("http", "websocket"):
            await self.app(scope, receive, send)
        else:
            await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        ids = _ids(scope)
        scope[FIELDS_KEY] = {}
        with context.scope(**ids) as frame:
            if scope["type"] == "websocket":
                await self.app(scope, receive, send)
                return
            exchange = _Exchange(scope, receive, send, frame, ids["request_id"])
            if (path := scope["path"]) in self._probe_paths or is_probe(path):
                exchange.fields["probe"] = True
            await exchange.run(self.app)


class _Exchange:
    """One request and its answer, as they pass between server and application."""

    __slots__ = (
        "_complete",
        "_contents",
        "_disconnected",
        "_duration_ms",
        "_frame",
        "_noted",
        "_printed",
        "_receive",
        "_request_id",
        "_scope",
        "_send",
        "_started",
        "_status",
        "fields",
    )

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, frame: context.Frame, request_id: str
    ) -> None:
        self._started = monotonic_ns()
        self._scope, self._receive, self._send = scope, receive, send
        self._frame, self._request_id = frame, request_id
        self._noted: dict[str, Any] = scope[FIELDS_KEY]
        # Read now: frameworks rewrite the path of what they have mounted.
        self.fields: dict[str, Any] = {"method": known_method(scope["method"]), "path": scope["path"]}
        self._status = 500  # what a server makes of no answer
        self._duration_ms: float | None = None
        self._contents = 0
        self._complete = self._disconnected = self._printed = False

    async def run(self, app: Application) -> None:
        try:
            await app(self._scope, self.receive, self.send)
        except BaseException as error:
            self._finish(error)
            raise
        self._finish(None)

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self._complete:
            self._disconnected = True
        return message

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            message = self._start(message)
        elif kind in _BODIES:
            self._contents += bool(kind != "http.response.body" or message.get("body"))
            # Set before the message goes: when it is gone, the application may receive http.disconnect.
            self._complete = not message.get("more_body")
        try:
            await self._send(message)
        except OSError:
            self._disconnected = True
            raise
        if self._complete and self._duration_ms is None:
            self._duration_ms = elapsed_ms(self._started)
            if self._status < 500:
                self._finish(None)

    def _start(self, message: Message) -> Message:
        """The start of the answer with X-Request-ID, unless the application has set it."""
        try:
            if message["status"] < 200:
                return message  # informational; the answer follows
            self._status = message["status"]
            headers = list(message.get("headers", ()))
            names = {name.lower(): value for name, value in headers}
            if names.get(b"content-type", b"").startswith(b"text/event-stream"):
                self.fields["streaming"] = True
            if _REQUEST_ID not in names:
                headers.append((_REQUEST_ID, self._request_id.encode()))
            return {**message, "headers": headers}  # the host may hold on to its own
        except Exception as error:
            GUARD.failed("asgi", error)
            return message

    def _finish(self, error: BaseException | None) -> None:
        """The answer is complete, or the application has returned or raised."""
        if self._printed:
            return
        self._printed = True
        name = None if error is None else type(error).__name__
        # What is neither of these (CancelledError) is the server's way of giving the request up.
        failed = error is None or isinstance(error, Exception | SystemExit)
        if self._disconnected or not failed:
            self._print(CLIENT_CLOSED, name or "ClientDisconnect")
        else:
            self._print(self._status if self._complete else 500, name)

    def _print(self, status: int, error: str | None) -> None:
        fields = {**self._frame.fields, **self._noted, **self.fields, **answered_by(self._scope)}
        fields["status"] = status
        fields["duration_ms"] = self._duration_ms or elapsed_ms(self._started)
        if self._contents > 1:
            fields["streaming"] = True
        if error is not None:
            fields["error"] = error
        emit_request(fields)


#: Messages that carry a piece of the answer's body: the two others name a file.
_BODIES = frozenset({"http.response.body", "http.response.pathsend", "http.response.zerocopysend"})


def _flushing(send: Send) -> Send:
    """``send`` of the lifespan: some servers end the process right after its last message."""

    async def send_flushed(message: Message) -> None:
        if message["type"] == "lifespan.shutdown.complete":
            flush()
        await send(message)

    return send_flushed


def _ids(scope: Scope) -> dict[str, str]:
    """What correlates the request: its id and its place in the trace, taken from the headers or new."""
    headers: dict[bytes, bytes] = {}
    try:
        headers = dict(scope["headers"])
    except Exception as error:
        GUARD.failed("asgi", error)
    place = child(parse_traceparent(_text(headers.get(b"traceparent"))))
    return {
        "request_id": request_id(_text(headers.get(_REQUEST_ID))),
        "trace_id": place.trace_id,
        "span_id": place.span_id,
        "trace_flags": place.trace_flags,
    }


def _text(value: bytes | None) -> str | None:
    return value.decode("latin-1") if isinstance(value, bytes) else None
