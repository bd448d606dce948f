"""Django: `api.request` with view, user and tenant (``RequestMiddleware``), `auth.login` (``instrument``)."""

from __future__ import annotations

import re
import sys
from asyncio import CancelledError
from functools import lru_cache
from typing import Any
from uuid import UUID

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.contrib.auth.signals import user_logged_in, user_login_failed
from django.core.signals import got_request_exception
from django.utils.functional import LazyObject, empty

from tocsin import auth
from tocsin.context import bound
from tocsin.guard import GUARD
from tocsin.instrumentation.http import CLIENT_CLOSED, FIELDS_KEY, REQUEST_ID_HEADER, Exchange
from tocsin.instrumentation.logins import (
    client_address,
    provider_of_backend,
    provider_of_credentials,
    provider_of_session,
)
from tocsin.instrumentation.streams import AsyncStream, SyncStream

#: Where another instrumentation says, in ``request.META``, who vouches for the person who is logging in.
PROVIDER_KEY = "tocsin.login_provider"


class RequestMiddleware:
    """First in ``MIDDLEWARE``: prints a request line and `api.request` for each request, sync or async.

    Streams are measured to their end. An unhandled exception is status 500 with its class as ``error``; what
    Django answers itself (Http404, PermissionDenied, …) is no error. The user and the tenant are printed if
    the application has loaded them: no query is made for it. Inside the WSGI or ASGI middleware it prints
    nothing, but tells that one what it knows.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Any) -> None:
        """``get_response`` is the next middleware, as Django gives it."""
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)
        got_request_exception.connect(_unhandled, dispatch_uid="tocsin")

    def __call__(self, request: Any) -> Any:
        """One request; a coroutine if Django runs asynchronously."""
        if self._is_async:
            return self._answer_async(request)
        exchange = _exchange(request)
        if exchange is None:
            return self._respond(request)
        try:
            response = exchange.run(self._respond, request)
        except BaseException as error:
            exchange.finish(500, error)
            raise
        return _answered(exchange, request, response)

    async def _answer_async(self, request: Any) -> Any:
        exchange = _exchange(request)
        if exchange is None:
            return await self._respond_async(request)
        try:
            response = await exchange.run_async(self._respond_async, request)
        except CancelledError:
            exchange.finish(CLIENT_CLOSED)
            raise
        except BaseException as error:
            exchange.finish(500, error)
            raise
        return _answered(exchange, request, response)

    def _respond(self, request: Any) -> Any:
        try:
            return self.get_response(request)
        finally:
            _describe(request)

    async def _respond_async(self, request: Any) -> Any:
        try:
            return await self.get_response(request)
        finally:
            _describe(request)


def instrument(*, trusted_proxies: int = 0) -> None:
    """Prints `auth.login` for each login that Django's own signals tell; again does nothing more.

    ``client_network`` is of the peer's address or, if ``trusted_proxies`` of your own stand before the
    application, of the address that the outermost of them wrote into X-Forwarded-For.
    """
    global _trusted_proxies
    _trusted_proxies = trusted_proxies
    user_logged_in.connect(_logged_in, dispatch_uid="tocsin")
    user_login_failed.connect(_login_failed, dispatch_uid="tocsin")


_trusted_proxies = 0


def _exchange(request: Any) -> Exchange | None:
    """None if a middleware further out prints the request."""
    try:
        meta = request.META
        outer = meta.get(FIELDS_KEY) or getattr(request, "scope", {}).get(FIELDS_KEY)
        if outer is not None:
            meta[FIELDS_KEY] = outer
            return None
        exchange = Exchange(
            request.method, request.path, meta.get("HTTP_X_REQUEST_ID"), meta.get("HTTP_TRACEPARENT")
        )
        meta[FIELDS_KEY] = exchange.fields
        return exchange
    except Exception as error:
        GUARD.failed("django", error)
        return None


def _answered(exchange: Exchange, request: Any, response: Any) -> Any:
    try:
        if REQUEST_ID_HEADER not in response:
            response[REQUEST_ID_HEADER] = exchange.request_id
        if getattr(response, "streaming", False):
            exchange.fields["streaming"] = True
            _measure(exchange, request.method != "HEAD", response)
        else:
            exchange.finish(response.status_code)
    except Exception as error:
        GUARD.failed("django", error)
    return response


def _measure(exchange: Exchange, has_body: bool, response: Any) -> None:
    status = response.status_code
    if getattr(response, "file_to_stream", None) is not None:
        # Another iterator would take the file from a server that can send it itself.
        response._resource_closers.append(lambda: exchange.finish(status))
        return
    kind = AsyncStream if response.is_async else SyncStream
    at_close = CLIENT_CLOSED if has_body and status not in (204, 304) else status
    response.streaming_content = kind(response.streaming_content, exchange, status, at_close)


def _unhandled(request: Any = None, **_: Any) -> None:
    """Django is about to answer 500."""
    error = sys.exc_info()[1]
    fields = request.META.get(FIELDS_KEY) if request is not None else None
    if error is not None and fields is not None:
        fields["error"] = type(error).__name__


def _describe(request: Any) -> None:
    """Adds which code answered, and for whom. What the application has annotated itself stays."""
    try:
        fields = request.META.get(FIELDS_KEY)
        if fields is None:
            return
        match = request.resolver_match
        if match is not None:
            controller, action = _view(match.func, request.method)
            fields.update(route=_route(match.route), controller=controller, action=action)
        user = _loaded(request, "user") or _loaded(request, "_acached_user")
        known = {"user_id": getattr(user, "pk", None), "tenant_id": _tenant(request, user)}
        fields.update({name: value for name, value in known.items() if name not in bound()})
    except Exception as error:
        GUARD.failed("django", error)


@lru_cache(maxsize=4096)
def _route(pattern: str) -> str:
    """The URL pattern with a slash before it; of a regular expression without its anchors."""
    return "/" + re.sub(r"\^|\\Z|\$", "", pattern).lstrip("/")


def _view(view: Any, method: str) -> tuple[str, str]:
    """Class and method of a class-based view or REST framework viewset; module and function of any other."""
    kind = getattr(view, "view_class", None) or getattr(view, "cls", None)
    if kind is None:
        return view.__module__, getattr(view, "__name__", type(view).__name__)
    verb = method.lower()
    actions = getattr(view, "actions", None) or {}
    return kind.__name__, actions.get(verb) or ("get" if verb == "head" else verb)


def _loaded(holder: Any, name: str) -> Any:
    """An attribute that is there already; None for what would have to be computed or queried."""
    value = getattr(holder, "__dict__", {}).get(name)
    if issubclass(type(value), LazyObject):  # isinstance could ask the object, which loads it
        value = value.__dict__.get("_wrapped", empty)
        return None if value is empty else value
    return value


def _tenant(request: Any, user: Any) -> Any:
    for holder, name in ((request, "tenant_id"), (request, "tenant"), (user, "tenant_id")):
        value = _loaded(holder, name)
        value = getattr(value, "pk", value)
        if isinstance(value, str | int | UUID):
            return value
    return None


def _logged_in(request: Any = None, user: Any = None, **_: Any) -> None:
    try:
        attempt = auth.current() or auth.Attempt(_provider(request, user))
        attempt.tenant_id = attempt.tenant_id or _tenant(request, user)
        report(attempt, request)
    except Exception as error:
        GUARD.failed("django", error)


def _login_failed(credentials: Any = (), request: Any = None, **_: Any) -> None:
    """Of ``credentials`` only the kind is looked at."""
    try:
        attempt = auth.current() or auth.Attempt(provider_of_credentials(credentials))
        attempt.tenant_id = attempt.tenant_id or _tenant(request, None)
        attempt.fail("invalid_credentials")
        report(attempt, request)
    except Exception as error:
        GUARD.failed("django", error)


def report(attempt: auth.Attempt, request: Any) -> None:
    """Prints the attempt, unless a ``with tocsin.auth.login(...)`` is around it, which will."""
    meta = getattr(request, "META", {})
    attempt.client_network = attempt.client_network or client_address(meta, _trusted_proxies)
    if attempt is not auth.current():
        attempt.emit()


def _provider(request: Any, user: Any) -> str:
    noted: str | None = request.META.get(PROVIDER_KEY)
    backend = getattr(user, "backend", None) or request.session.get("_auth_user_backend", "")
    return noted or provider_of_session(backend, request.session) or provider_of_backend(backend)
