"""Request id and trace to the next service, for ``requests`` sessions.

Only requests made while a request or job is handled carry them, and what the caller set itself stays.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import wraps
from typing import Any
from urllib.parse import urlsplit

from requests.adapters import HTTPAdapter

from tocsin.guard import GUARD
from tocsin.trace import add_outgoing_headers

#: Sends one request, not those to which it is redirected, so that each hop is decided by its own host.
_SEND = "send"

_instrumented: set[type] = set()


def instrument(*, hosts: Collection[str] | None = None) -> None:
    """Lets every ``requests`` call and session send X-Request-ID and traceparent along.

    ``hosts``: host names to which alone they are sent; None: to all. A further call changes nothing. A
    session with a transport adapter that is no ``HTTPAdapter`` is left alone.
    """
    if HTTPAdapter not in _instrumented:
        setattr(HTTPAdapter, _SEND, _wrapped(getattr(HTTPAdapter, _SEND), hosts))
        _instrumented.add(HTTPAdapter)


def _wrapped(send: Callable[..., Any], hosts: Collection[str] | None) -> Callable[..., Any]:
    @wraps(send)
    def tocsin_send(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        added = _send_along(request, hosts)
        try:
            return send(self, request, *args, **kwargs)
        finally:
            # The host may send the same PreparedRequest again, on behalf of another request.
            for name in added:
                request.headers.pop(name, None)

    return tocsin_send


def _send_along(request: Any, hosts: Collection[str] | None) -> list[str]:
    """Adds the headers; returns the names of those added."""
    try:
        if hosts is None or urlsplit(request.url).hostname in hosts:
            return add_outgoing_headers(request.headers)
    except Exception as error:
        GUARD.failed("requests", error)
    return []
