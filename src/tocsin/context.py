"""Fields that every event of one request, task or job carries: request_id, tenant_id, user_id, …

What is bound lives in a frame. A request or job opens a frame of its own (:class:`scope`), ``bind`` lays
another on top, and both take theirs away at the end, so nothing of one request is seen by the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar, Token
from typing import Any

from tocsin.events import Scalar
from tocsin.values import plain

_SCALARS = frozenset((str, int, float, bool))


class Frame:
    """What is bound at one place. ``fields`` is never changed, only replaced: an event may hold on to it.

    ``below`` is the frame that this one lies on; None for the frame of a request or job.
    """

    __slots__ = ("below", "fields")

    def __init__(self, fields: Mapping[str, Scalar], below: Frame | None = None) -> None:
        self.fields = fields
        self.below = below


_NOTHING = Frame({})
_frame: ContextVar[Frame] = ContextVar("tocsin_frame", default=_NOTHING)


class _Held:
    """Puts a frame on for the time of a ``with`` block."""

    __slots__ = ("_fields", "_token")
    _token: Token[Frame]

    def __init__(self, /, **fields: object) -> None:
        self._fields = fields

    def __exit__(self, *exc_info: object) -> None:
        try:  # noqa: SIM105  # suppress() is slower, and every request pays
            _frame.reset(self._token)
        except ValueError:
            pass  # left in another context than entered: a generator that is closed elsewhere


class bind(_Held):  # noqa: N801  # read as a verb: `with bind(tenant_id=7):`
    """Adds ``fields`` to every event emitted inside the ``with`` block, in this thread or asyncio task.

    Only scalars are kept (a UUID or datetime as its text), so that the snapshot fits into any task header. A
    field bound to None is unbound. A field given to ``emit`` wins over a bound one. Never raises.
    """

    __slots__ = ()

    def __enter__(self) -> None:
        """Puts the fields on."""
        below = _frame.get()
        self._token = _frame.set(Frame(_merged(below.fields, self._fields), below))


class scope(_Held):  # noqa: N801
    """One request or job: inside the ``with`` block only ``fields`` are bound, whatever was bound before.

    Yields the :class:`Frame`: at the end its ``fields`` hold what :func:`annotate` has added meanwhile, in
    whatever thread or task of this request. For instrumentation; an application uses :class:`bind`.
    """

    __slots__ = ()

    def __enter__(self) -> Frame:
        """Starts afresh."""
        frame = Frame(_merged({}, self._fields))
        self._token = _frame.set(frame)
        return frame


def annotate(**fields: object) -> None:
    """Adds ``fields`` to what the current request or job prints from here on, its closing line included.

    For what is learnt on the way: ``tocsin.annotate(user_id=user.id, tenant_id=user.tenant_id)`` once the
    user is known, also in a thread or task that the request has started. Where no request or job is open, and
    none of ``bind``, it does nothing. Never raises.
    """
    frame: Frame | None = _frame.get()
    while frame is not None and frame is not _NOTHING:
        frame.fields = _merged(frame.fields, fields)
        frame = frame.below


def bound() -> Mapping[str, Scalar]:
    """What is bound here; not to be changed."""
    return _frame.get().fields


def snapshot() -> dict[str, Scalar]:
    """A copy of what is bound here: JSON scalars, raw ids included (a line redacts them when it is made)."""
    return dict(_frame.get().fields)


def _merged(outer: Mapping[str, Scalar], fields: Mapping[str, Any]) -> Mapping[str, Scalar]:
    merged = dict(outer)
    for name, value in fields.items():
        scalar = value if type(value) is str and len(value) <= 64 else plain(value)
        if type(scalar) in _SCALARS:
            merged[name] = scalar
        else:
            merged.pop(name, None)
    return merged
