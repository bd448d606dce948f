"""Time as an argument: a clock is a function that returns microseconds since the epoch, UTC."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

#: Returns the current time in microseconds since 1970-01-01T00:00:00Z.
Clock = Callable[[], int]

SECOND_US = 1_000_000


def real_clock() -> int:
    """The machine's wall clock, in microseconds since the epoch, UTC."""
    return time.time_ns() // 1000


def frozen_clock(at_us: int) -> Clock:
    """A clock that always says ``at_us``; for tests and for replay."""
    return lambda: at_us


def iso(at_us: int) -> str:
    """``at_us`` as ISO 8601 UTC to the second with ``Z``: the form of every time that Tocsin prints."""
    moment = datetime.fromtimestamp(at_us // SECOND_US, UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
