"""For your tests: see what your code emits, without printing it.

with capture_events() as captured:
    enroll(student)
assert captured.fields("sync.run") == [{"provider": "oneroster", "status": "success", …}]

Under pytest the fixture ``tocsin_events`` is such a ``captured``; ``tocsin_clock`` is its frozen clock.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import orjson

from tocsin.config import Settings
from tocsin.emitter import Emitter, use
from tocsin.processors import Clock

#: The pseudonym key of captured events, so that pseudonyms are the same in every run.
TEST_KEY = "tocsin-testing-pseudonym-key"

_ENVELOPE = frozenset(("metric", "timestamp", "service", "environment"))


class FrozenClock:
    """A clock that stands still until it is told to go on, for the time of events and for durations."""

    def __init__(self, at: datetime = datetime(2026, 11, 23, 7, 55, tzinfo=UTC)) -> None:
        """``at`` is the time that it shows; without a zone it is taken as UTC."""
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        self._ns = int(at.timestamp()) * 1_000_000_000 + at.microsecond * 1000

    def advance(self, seconds: float) -> None:
        """Lets ``seconds`` pass."""
        self._ns += round(seconds * 1e9)

    def __call__(self) -> int:
        """Nanoseconds since the epoch, UTC."""
        return self._ns


class ListSink:
    """Keeps the lines that it is given, in order."""

    def __init__(self) -> None:
        """Starts without lines."""
        self.lines: list[bytes] = []

    def __call__(self, lines: list[bytes]) -> None:
        """Keeps ``lines``."""
        self.lines += lines

    @property
    def events(self) -> list[dict[str, Any]]:
        """The lines as the objects they are."""
        return [orjson.loads(line) for line in self.lines]

    def fields(self, name: str) -> list[dict[str, Any]]:
        """The fields of every metric event of that name, in order."""
        events = [event for event in self.events if event.get("metric") == name]
        flat = [{key: event[key] for key in event if key not in _ENVELOPE} for event in events]
        return [event.get("tags", fields) for event, fields in zip(events, flat, strict=True)]


@contextmanager
def capture_events(
    settings: Settings | None = None, *, clock: Clock = time.time_ns, monotonic: Clock | None = None
) -> Iterator[ListSink]:
    """Everything emitted inside the block, by any thread, lands in the sink that this yields, at once.

    ``clock`` and ``monotonic`` return nanoseconds; a :class:`FrozenClock` is both.
    """
    sink = ListSink()
    settings = settings or Settings(service="test", environment="test", pseudonym_key=TEST_KEY)
    if monotonic is None:
        monotonic = clock if isinstance(clock, FrozenClock) else time.perf_counter_ns
    before = use(Emitter(settings, sink, background=False, clock=clock, monotonic=monotonic))
    try:
        yield sink
    finally:
        use(before)
