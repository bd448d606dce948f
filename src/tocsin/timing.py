"""``timed``: an event about a piece of work, with how long it took and how it ended."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from tocsin.emitter import current, emit
from tocsin.events import EVENTS, EventType

P = ParamSpec("P")
R = TypeVar("R")


class timed:  # noqa: N801  # read as a verb: `with timed("sync.run")`, `@timed("job.completed")`
    """Emits ``event`` at the end of a block or function, with ``duration_ms``, ``status`` and ``error``.

    As a context manager it yields the event's fields, so that the block can add what it learns::

        with timed("sync.run", provider="oneroster") as fields:
            fields["records_processed"] = sync()

    As a decorator it times each call of a function or coroutine function. An exception is noted (its class)
    and goes on. Status and duration are named as the event's catalogue entry says: a failed ``api.request``
    is status 500. A status that the block set itself stays, unless the block fails.
    """

    def __init__(self, event: str, /, **fields: Any) -> None:
        """``fields`` are those known before the work starts."""
        self._event = event
        self._fields = fields

    def __enter__(self) -> dict[str, Any]:
        """Starts the clock and returns the fields."""
        self._monotonic = current().monotonic
        self._started = self._monotonic()
        return self._fields

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Emits; an exception goes on."""
        elapsed_ms = (self._monotonic() - self._started) / 1e6
        emit(self._event, **_outcome(self._event, self._fields, elapsed_ms, kind))

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """``function``, timed at each call."""
        if inspect.iscoroutinefunction(function):
            return self._coroutine_function(function)

        @wraps(function)
        def tocsin_timed(*args: P.args, **kwargs: P.kwargs) -> R:
            with timed(self._event, **self._fields):
                return function(*args, **kwargs)

        return tocsin_timed

    def _coroutine_function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        async def tocsin_timed(*args: Any, **kwargs: Any) -> Any:
            with timed(self._event, **self._fields):
                return await function(*args, **kwargs)

        return tocsin_timed


_UNKNOWN = EventType("", "", (), {})


def _outcome(
    event: str, fields: dict[str, Any], elapsed_ms: float, failure: type[BaseException] | None
) -> dict[str, Any]:
    """The event's fields once the work has ended."""
    known = EVENTS.get(event, _UNKNOWN)
    outcome = {**fields, known.duration: round(elapsed_ms, 3)}
    if failure is not None:
        return {**outcome, "status": known.failure, "error": failure.__name__}
    return {**outcome, "status": fields.get("status", known.success)}
