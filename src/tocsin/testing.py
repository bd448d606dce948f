"""For your tests: see what your code emits, without printing it.

with capture_events() as captured:
    enroll(student)
assert captured.events[0]["metric"] == "sync.run"
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson

from tocsin.config import Settings
from tocsin.emitter import Emitter, use
from tocsin.processors import Clock

#: The pseudonym key of captured events, so that pseudonyms are the same in every run.
TEST_KEY = "tocsin-testing-pseudonym-key"


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


@contextmanager
def capture_events(
    settings: Settings | None = None,
    *,
    clock: Clock = time.time_ns,
    monotonic: Clock = time.perf_counter_ns,
) -> Iterator[ListSink]:
    """Everything emitted inside the block, by any thread, lands in the sink that this yields.

    ``clock`` and ``monotonic`` return nanoseconds; give your own to freeze time.
    """
    sink = ListSink()
    settings = settings or Settings(service="test", environment="test", pseudonym_key=TEST_KEY)
    before = use(Emitter(settings, sink, background=False, clock=clock, monotonic=monotonic))
    try:
        yield sink
    finally:
        use(before)
