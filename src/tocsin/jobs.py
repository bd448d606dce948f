"""Background jobs of whatever library: ``job.completed`` for each attempt, ``job.queue`` for each queue.

    headers = tocsin.jobs.carried()                        # where the job is enqueued

    with tocsin.jobs.job("PdfExport", context=headers):    # where it runs
        export()

A process that is no worker says how full the queues are, also while all workers are dead::

    python -m tocsin.jobs celery redis://localhost:6379/0 --queue default --every 30
"""

from __future__ import annotations

import argparse
import inspect
import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import wraps
from importlib import import_module
from typing import Any, NamedTuple, NoReturn, ParamSpec, TypeVar

from tocsin.context import bound, scope
from tocsin.emitter import current, emit
from tocsin.events import Scalar
from tocsin.guard import GUARD
from tocsin.timing import timed

P = ParamSpec("P")
R = TypeVar("R")

#: An instant: seconds since the epoch, or a datetime that knows its time zone.
When = float | datetime | None

#: The bound fields that a job takes over from where it was enqueued.
CARRIED = ("request_id", "tenant_id", "user_id", "trace_id", "span_id", "trace_flags")


def carried(*, due: When = None, inherited: object = None) -> dict[str, Scalar]:
    """What to put into a job's headers: whose job it is, and ``enqueued_at`` (seconds since the epoch).

    A job that is to start later waits from ``due`` on. Where nothing is bound, such as in the part of a
    library that sends a failed job again, what it has ``inherited`` (an earlier answer) stays. Ids are raw, a
    line redacts them when it is made: the headers are for your own queue. Never raises.
    """
    context = _context(bound()) or _context(inherited)
    return {**context, "enqueued_at": round(max(_now_s(), _epoch_s(due) or 0.0), 3)}


class job:  # noqa: N801  # read as a verb: `with job("PdfExport"):`, `@job("PdfExport")`
    """One attempt of a job, as a ``with`` block, or as a decorator of a function or coroutine function.

    Inside, only what ``context`` carries is bound, and ``job_id``. At the end it emits ``job.completed`` with
    ``duration_ms`` and ``status``; an exception is noted (its class) and goes on. The block gets the event's
    fields and may add what it learns. Never raises for what it is given.
    """

    def __init__(
        self,
        job_class: str,
        *,
        queue: str | None = None,
        job_id: object = None,
        attempt: int | None = None,
        enqueued_at: When = None,
        context: Mapping[str, object] | None = None,
    ) -> None:
        """``attempt`` is 1 for the first run; ``context`` is what :func:`carried` returned.

        The time since ``enqueued_at``, by default that of ``context``, is ``wait_ms``.
        """
        self._job_id = job_id
        self._fields = {"job_class": job_class, "queue": queue, "attempt": attempt}
        self._context = _context(context)
        self._enqueued_s = _epoch_s(enqueued_at)
        if self._enqueued_s is None and isinstance(context, Mapping):
            self._enqueued_s = _epoch_s(context.get("enqueued_at"))

    def __enter__(self) -> dict[str, Any]:
        """Binds, starts the clock and returns the event's fields."""
        self._scope = scope(**self._context, job_id=self._job_id)
        self._scope.__enter__()
        self._timed = timed("job.completed", **self._known(_now_s()))
        return self._timed.__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        """Emits; an exception goes on."""
        self._timed.__exit__(kind, None, None)
        self._scope.__exit__()

    def discard(self) -> None:
        """Unbinds without an event, in place of ``__exit__``: how it ends is for another to say."""
        self._scope.__exit__()

    def lost(self, error: str, *, started_at: When = None) -> None:
        """Emits for an attempt that could not do so itself: its process was killed, or it never started.

        ``error`` names the cause; without ``started_at`` there is neither duration nor wait.
        """
        started_s = _epoch_s(started_at)
        fields = self._known(started_s)
        if started_s is not None:
            fields["duration_ms"] = round(max(0.0, _now_s() - started_s) * 1e3, 3)
        with scope(**self._context, job_id=self._job_id):
            emit("job.completed", **fields, status="error", error=error)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """``function``, each call of which is an attempt.

        Raises :class:`TypeError` for a generator function: its work is done after the call.
        """
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"@job: {function.__name__} is a generator: put `with job(…)` into it instead")
        if inspect.iscoroutinefunction(function):
            return self._coroutine_function(function)

        @wraps(function)
        def tocsin_job(*args: P.args, **kwargs: P.kwargs) -> R:
            with self._again():
                return function(*args, **kwargs)

        return tocsin_job

    def _coroutine_function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        async def tocsin_job(*args: Any, **kwargs: Any) -> Any:
            with self._again():
                return await function(*args, **kwargs)

        return tocsin_job

    def _again(self) -> job:
        """A fresh one of the same kind: calls may overlap."""
        again = object.__new__(type(self))
        again.__dict__.update(self.__dict__)
        return again

    def _known(self, started_s: float | None) -> dict[str, Any]:
        """The event's fields at the start; what is None would hide what is bound."""
        fields: dict[str, Any] = {name: value for name, value in self._fields.items() if value is not None}
        if started_s is not None and self._enqueued_s is not None:
            # Two machines' clocks differ: a wait is never negative.
            fields["wait_ms"] = round(max(0.0, started_s - self._enqueued_s) * 1e3, 3)
        return fields


class QueueState(NamedTuple):
    """A queue at one instant: ``depth`` jobs wait, one of them for ``oldest_age_s`` (None: not known)."""

    queue: str
    depth: int
    oldest_age_s: float | None = None


Sampler = Callable[[], Iterable[QueueState]]


def sample_queues(
    sampler: Sampler, every_s: float = 30.0, *, wait: Callable[[float], object] = time.sleep
) -> NoReturn:
    """Emits ``job.queue`` for each state that ``sampler`` returns, every ``every_s`` seconds, for ever.

    A sampler that raises, such as for a broker that is down, is counted and told on stderr; the loop goes on.
    """
    while True:
        sample(sampler)
        wait(every_s)


def sample(sampler: Sampler) -> None:
    """Emits ``job.queue`` once for each state that ``sampler`` returns. Never raises."""
    try:
        for state in sampler():
            emit("job.queue", **state._asdict())
    except Exception as error:
        GUARD.failed("queue sampler", error)


def age_s(enqueued_at: object) -> float | None:
    """Seconds since an instant, never negative; None for what is no instant. For samplers."""
    enqueued_s = _epoch_s(enqueued_at)
    return None if enqueued_s is None else round(max(0.0, _now_s() - enqueued_s), 3)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """``python -m tocsin.jobs``: samples queues until it is stopped."""
    parser = argparse.ArgumentParser(prog="python -m tocsin.jobs", description="Prints job.queue events.")
    parser.add_argument("library", choices=("celery", "rq", "dramatiq"))
    parser.add_argument("broker", help="URL of the broker, such as redis://localhost:6379/0")
    parser.add_argument("--queue", action="append", required=True, help="name of a queue; may be repeated")
    parser.add_argument("--every", type=float, default=30.0, metavar="SECONDS", help="default: 30")
    given = parser.parse_args(arguments)
    if not given.every > 0:
        parser.error("--every must be more than 0")
    library = import_module(f"tocsin.instrumentation.{given.library}")
    try:
        sample_queues(library.queue_sampler(given.broker, given.queue), given.every)
    except KeyboardInterrupt:
        sys.exit(0)


def _now_s() -> float:
    return current().clock() / 1e9


def _context(given: object) -> dict[str, Any]:
    """What of ``given``, perhaps somebody else's headers, a job takes over."""
    if not isinstance(given, Mapping):
        return {}
    return {name: given[name] for name in CARRIED if given.get(name) is not None}


def _epoch_s(when: object) -> float | None:
    try:
        seconds = when.timestamp() if isinstance(when, datetime) else float(when)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError, OSError):
        return None
    return seconds if math.isfinite(seconds) else None


if __name__ == "__main__":
    main()
