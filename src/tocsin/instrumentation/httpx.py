"""Request id and trace to the next service, for ``httpx`` clients.

Only requests made while a request or job is handled carry them, and what the caller set itself stays.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import wraps
from typing import Any

import httpx

from tocsin.guard import GUARD
from tocsin.trace import add_outgoing_headers, outgoing_headers

#: Sends one request, not those to which it is redirected, so that each hop is decided by its own host.
_SEND = "_send_single_request"

_instrumented: set[type] = set()


def instrument(*, hosts: Collection[str] | None = None) -> None:
    """Lets every ``httpx.Client`` and ``httpx.AsyncClient`` send X-Request-ID and traceparent along.

    ``hosts``: host names to which alone they are sent; None: to all. A further call changes nothing. Raises
    AttributeError if this version of httpx is built differently; then use :func:`event_hooks`.
    """
    for client, wrapped in ((httpx.Client, _wrapped), (httpx.AsyncClient, _async_wrapped)):
        if client not in _instrumented:
            setattr(client, _SEND, wrapped(getattr(client, _SEND), hosts))
            _instrumented.add(client)


def event_hooks(*, hosts: Collection[str] | None = None) -> dict[str, list[Callable[..., Any]]]:
    """The same for one client, without patching: ``httpx.Client(event_hooks=event_hooks())``."""

    def send_along(request: httpx.Request) -> None:
        _send_along(request, hosts)

    return {"request": [send_along]}


def async_event_hooks(*, hosts: Collection[str] | None = None) -> dict[str, list[Callable[..., Any]]]:
    """The same for one ``httpx.AsyncClient``."""

    async def send_along(request: httpx.Request) -> None:
        _send_along(request, hosts)

    return {"request": [send_along]}


def _wrapped(send: Callable[..., Any], hosts: Collection[str] | None) -> Callable[..., Any]:
    @wraps(send)
    def tocsin_send(self: httpx.Client, request: httpx.Request) -> Any:
        added = _send_along(request, hosts)
        try:
            return send(self, request)
        finally:
            _take_away(request, added)

    return tocsin_send


def _async_wrapped(send: Callable[..., Any], hosts: Collection[str] | None) -> Callable[..., Any]:
    @wraps(send)
    async def tocsin_send(self: httpx.AsyncClient, request: httpx.Request) -> Any:
        added = _send_along(request, hosts)
        try:
            return await send(self, request)
        finally:
            _take_away(request, added)

    return tocsin_send


def _send_along(request: httpx.Request, hosts: Collection[str] | None) -> list[str]:
    """Adds the headers; returns the names of those added."""
    try:
        if hosts is None or request.url.host in hosts:
            return add_outgoing_headers(request.headers)
        for name, value in outgoing_headers().items():
            if request.headers.get(name) == value:
                del request.headers[name]  # came along from the host that redirected
    except Exception as error:
        GUARD.failed("httpx", error)
    return []


def _take_away(request: httpx.Request, names: list[str]) -> None:
    """The host may send the same ``Request`` again, on behalf of another request."""
    for name in names:
        request.headers.pop(name, None)
