"""HTTP requests that leave this process: probes, runbook steps, webhooks. One guard for all of them.

Reliability row I15: http and https only, no proxy of the environment, no redirects, a bounded time and a
bounded answer; the *connected* address is checked, so that a name cannot change between check and use.
"""

from __future__ import annotations

import contextlib
import functools
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import httpcore

from tocsin_server.outbound.failures import Failure, RequestFailed
from tocsin_server.outbound.route import Resolver, Route, system_addresses
from tocsin_server.outbound.target import Target, framed, read_target

__all__ = ["Answer", "Failure", "RequestFailed", "Resolver", "request", "system_addresses"]


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; header names in lower case, repeated ones joined by a newline;
    ``truncated``: the body was longer than asked for.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    truncated: bool
    duration_ms: float


def request(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    timeout_s: float = 5.0,
    max_bytes: int = 65_536,
    private_hosts: frozenset[str] = frozenset(),
    resolve: Resolver = system_addresses,
) -> Answer:
    """One request, no redirect followed. ``timeout_s`` bounds the whole of it, the name's look-up included.

    An address that is not public is refused unless the operator wrote it down: the URL's host is in
    ``private_hosts``, or is ``localhost`` or such an address itself, in its plain form. Link-local (the
    cloud's metadata service), multicast, unspecified and reserved addresses are refused even when written in
    the URL: only ``private_hosts`` lets them through. Every address of a name must pass, or none is used.
    Messages never hold the URL's path or query: they may be secret. Raises RequestFailed.
    """
    started = time.monotonic()
    target = read_target(method, url)
    route = Route(target, started + timeout_s, timeout_s, private_hosts, resolve)
    context = _tls_context() if target.scheme == "https" else None
    content = body if body or method in ("POST", "PUT", "PATCH") else None
    origin = httpcore.Origin(target.scheme.encode(), target.host.encode(), target.port)
    with (
        _explained(target),
        httpcore.HTTPConnection(origin, ssl_context=context, network_backend=route) as connection,
        connection.stream(
            method, target.as_httpcore(), headers=framed(target, headers or {}), content=content
        ) as response,
    ):
        answer, truncated = _read(response, max_bytes)
    duration_ms = (time.monotonic() - started) * 1000
    return Answer(response.status, _joined(response.headers), answer, truncated, duration_ms)


@functools.cache
def _tls_context() -> ssl.SSLContext:
    """The machine's certificates; reading them takes longer than most requests."""
    return ssl.create_default_context()


def _read(response: httpcore.Response, max_bytes: int) -> tuple[bytes, bool]:
    """At most ``max_bytes`` of the body, and whether there was more."""
    content = bytearray()
    for chunk in response.iter_stream():
        content += chunk
        if len(content) > max_bytes:
            return bytes(content[:max_bytes]), True
    return bytes(content), False


def _joined(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        joined[name] = f"{joined[name]}\n{value}" if name in joined else value
    return joined


@contextlib.contextmanager
def _explained(target: Target) -> Iterator[None]:
    try:
        yield
    except ssl.SSLError as error:
        reason = getattr(error, "verify_message", "") or error.reason or str(error)
        raise RequestFailed("tls", f"{target.where}: no secure connection ({reason})") from None
    except httpcore.ProtocolError as error:
        raise RequestFailed("protocol", f"{target.where}: not HTTP as it should be ({error})") from None
    except httpcore.NetworkError as error:
        raise RequestFailed("connection", f"{target.where}: no connection ({error})") from None
