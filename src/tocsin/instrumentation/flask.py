"""`api.request` of a Flask application, with its route, view and unhandled exception."""

from __future__ import annotations

from typing import Any

from flask import got_request_exception, request, request_started

from tocsin.instrumentation.http import FIELDS_KEY
from tocsin.instrumentation.wsgi import RequestMiddleware


def instrument(app: Any) -> None:
    """Prints a request line and `api.request` for each request of ``app``; again does nothing more."""
    if not isinstance(app.wsgi_app, RequestMiddleware):
        app.wsgi_app = RequestMiddleware(app.wsgi_app)
    request_started.connect(_started, app)
    got_request_exception.connect(_failed, app)


def _started(app: Any, **_: Any) -> None:
    """The request is routed; nothing of it has run."""
    rule = request.url_rule
    if rule is not None and FIELDS_KEY in request.environ:
        controller, action = _names(app.view_functions.get(rule.endpoint), request.blueprint, request.method)
        request.environ[FIELDS_KEY].update(route=rule.rule, controller=controller, action=action)


def _failed(app: Any, exception: BaseException, **_: Any) -> None:
    """No error handler took the exception: Flask answers 500."""
    if FIELDS_KEY in request.environ:
        request.environ[FIELDS_KEY]["error"] = type(exception).__name__


def _names(view: Any, blueprint: str | None, method: str) -> tuple[str | None, str | None]:
    """Class and method of a class-based view; blueprint (else module) and function of any other."""
    kind = getattr(view, "view_class", None)
    if kind is None:
        return blueprint or getattr(view, "__module__", None), getattr(view, "__name__", None)
    handlers = [name for name in (method.lower(), "get") if hasattr(kind, name)]
    return kind.__name__, (handlers or ["dispatch_request"])[0]
