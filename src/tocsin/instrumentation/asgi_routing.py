"""What the routers of ASGI frameworks note in the scope: which route matched, and what code answers it."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from tocsin.guard import GUARD

Scope = MutableMapping[str, Any]


def answered_by(scope: Scope) -> dict[str, str]:
    """Route, controller and action, as far as the framework has noted in the scope who they are."""
    try:
        controller, action = _controller_and_action(scope)
        names = {"route": _route(scope), "controller": controller, "action": action}
        return {key: name for key, name in names.items() if name is not None}
    except Exception as error:
        GUARD.failed("asgi", error)
        return {}


def _route(scope: Scope) -> str | None:
    """The template of the route, with those of the mounts around it; None if no route matched."""
    if template := scope.get("path_template"):  # Litestar
        return str(template)
    own = _own_template(scope)
    if "app_root_path" not in scope:
        return own
    return _mounts(scope, own or "") + (own or "/{path}")


def _own_template(scope: Scope) -> str | None:
    """The template that Starlette's or FastAPI's router has matched, below all mounts."""
    route = scope.get("route")
    if not hasattr(route, "endpoint"):
        return None  # a mount, or nothing
    included = scope.get("fastapi", {}).get("effective_route_context")
    if getattr(included, "original_route", None) is route:
        route = included  # knows the prefixes with which its router was included
    template = getattr(route, "path_format", None)
    return template if isinstance(template, str) else None


def _mounts(scope: Scope, own: str) -> str:
    """Where the application is mounted; parameters are found by their values, all that the scope tells."""
    path: str = scope["root_path"].removeprefix(scope["app_root_path"])
    parameters = scope.get("path_params", {}).items()
    names = {str(value): f"{{{name}}}" for name, value in parameters if f"{{{name}}}" not in own}
    return "/".join(names.get(segment, segment) for segment in path.split("/"))


def _controller_and_action(scope: Scope) -> tuple[str | None, str | None]:
    """Class and method of the endpoint, or the last part of its module and its function."""
    handler = scope.get("route_handler")  # Litestar
    endpoint = _unwrapped(scope.get("endpoint") if handler is None else handler.fn)
    if endpoint is None:
        return None, None
    if isinstance(endpoint, type):
        action = "get" if scope["method"] == "HEAD" else scope["method"].lower()
        return endpoint.__name__, action if hasattr(endpoint, action) else None
    name = getattr(endpoint, "__qualname__", None)
    if not isinstance(name, str):
        return type(endpoint).__name__, None
    owner, _, action = name.rpartition(".")
    if owner and not owner.endswith("<locals>"):
        return owner.rpartition(".")[2], action
    return endpoint.__module__.rpartition(".")[2], action


def _unwrapped(endpoint: Any) -> Any:
    """What a ``functools.partial`` or Litestar's wrapper of a synchronous function calls."""
    for _ in range(3):
        if isinstance(endpoint, type) or hasattr(endpoint, "__qualname__"):
            break
        endpoint = getattr(endpoint, "func", endpoint)
    return endpoint
