"""What the request middlewares of ASGI, WSGI and Django agree on: what the fields of `api.request` mean."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

from tocsin import trace
from tocsin.context import scope
from tocsin.emitter import emit_request, monotonic_ns

P = ParamSpec("P")
R = TypeVar("R")

#: The header that carries the request's id, in and out.
REQUEST_ID_HEADER = "X-Request-ID"

#: Key of a WSGI environ or ASGI scope under which the outermost middleware keeps a dict: what is put there is
#: printed with the request. A middleware that finds it prints nothing itself, so no request counts twice.
FIELDS_KEY = "tocsin.request"

#: Status of a request whose client went away before the answer was complete; nobody received it.
CLIENT_CLOSED = 499

_METHODS = frozenset(
    {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "CONNECT", "TRACE", "QUERY"}
)

_PROBE = re.compile(
    r"(?:/api)?(?:/v\d{1,2})?"
    r"/(?:up|ping|metrics|_?health|healthz|health[-_]?check|live|livez|liveness|ready|readyz|readiness)"
    r"(?:/(?:live|liveness|ready|readiness))?/?"
)


def known_method(method: str) -> str:
    """``method`` itself, or `_OTHER` for one that a client invented: the values stay few."""
    return method if method in _METHODS else "_OTHER"


def is_probe(path: str) -> bool:
    """Whether a load balancer or monitor asks for ``path``, not a person: `/up`, `/api/v1/health`, …"""
    return _PROBE.fullmatch(path) is not None


def elapsed_ms(started_ns: int) -> float:
    """Milliseconds since ``started_ns``, a time of :func:`tocsin.emitter.monotonic_ns`."""
    return round((monotonic_ns() - started_ns) / 1e6, 3)


class Exchange:
    """One request until its answer is complete; printed once, at :meth:`finish`.

    ``fields`` are those of `api.request` that are known so far; more can be put there. ``request_id`` is the
    caller's own if it sent a fit one. The host's code runs in :meth:`run`, in as many pieces as it needs.
    """

    __slots__ = ("_bound", "_finished", "_started", "fields", "request_id")

    def __init__(self, method: str, path: str, request_id: str | None, traceparent: str | None) -> None:
        """``request_id`` and ``traceparent`` are the values of the request's headers."""
        self._started = monotonic_ns()
        self._finished = False
        self.request_id = trace.request_id(request_id)
        place = trace.child(trace.parse_traceparent(traceparent))
        self._bound: Any = {"request_id": self.request_id, **place._asdict()}
        self.fields: dict[str, Any] = {"method": known_method(method), "path": path}
        if is_probe(path):
            self.fields["probe"] = True

    def run(self, work: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Calls ``work``, a piece of this request: what it emits carries the request's id."""
        with scope(**self._bound) as frame:
            try:
                return work(*args, **kwargs)
            finally:
                self._bound = frame.fields

    async def run_async(self, work: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """The same for a coroutine function."""
        with scope(**self._bound) as frame:
            try:
                return await work(*args, **kwargs)
            finally:
                self._bound = frame.fields

    def finish(self, status: int, error: BaseException | None = None) -> None:
        """Prints the request, the first time: ``status``, how long it took and the class of ``error``."""
        if self._finished:
            return
        self._finished = True
        outcome: dict[str, Any] = {"status": status, "duration_ms": elapsed_ms(self._started)}
        if error is not None:
            outcome["error"] = type(error).__name__
        elif status == CLIENT_CLOSED:
            outcome["error"] = "ClientDisconnect"
        emit_request({**self._bound, **self.fields, **outcome})
