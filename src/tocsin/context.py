"""Fields that every event of one request, task or job carries: request_id, tenant_id, user_id, …"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar

from tocsin.events import Scalar
from tocsin.values import plain

_NOTHING: Mapping[str, Scalar] = {}
_bound: ContextVar[Mapping[str, Scalar]] = ContextVar("tocsin_bound", default=_NOTHING)


@contextmanager
def bind(**fields: object) -> Iterator[None]:
    """Adds ``fields`` to every event emitted inside the ``with`` block, in this thread or asyncio task.

    Only scalars are kept (a UUID or datetime as its text), so that the snapshot fits into any task header. A
    field bound to None is unbound. A field given to ``emit`` wins over a bound one. Never raises.
    """
    token = _bound.set(_merged(_bound.get(), fields))
    try:
        yield
    finally:
        # ValueError: left in another context than entered (a generator closed elsewhere).
        with suppress(ValueError):
            _bound.reset(token)


def snapshot() -> dict[str, Scalar]:
    """A copy of what is bound here: JSON scalars, raw ids included (a line redacts them when it is made)."""
    return dict(_bound.get())


def _merged(outer: Mapping[str, Scalar], fields: Mapping[str, object]) -> Mapping[str, Scalar]:
    merged = dict(outer)
    for name, value in fields.items():
        scalar = plain(value)
        merged.pop(name, None)
        if isinstance(scalar, str | int | float):
            merged[name] = scalar
    return merged
