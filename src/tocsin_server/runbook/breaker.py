"""The circuit breaker: a connection that does not answer is left alone for a while.

Runbook convention: do not add load to a system that is ill, and do not spend an incident's time on waiting.
"""

from __future__ import annotations

import threading

from tocsin_server.clock import SECOND_US, iso

FAILURES = 3
PAUSE_US = 900 * SECOND_US


class Breaker:
    """Counts failures in a row per connection; safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures: dict[str, tuple[int, int]] = {}

    def reason(self, connection: str, now_us: int) -> str:
        """Why ``connection`` is not asked now; empty when it may be."""
        with self._lock:
            count, since = self._failures.get(connection, (0, 0))
        until = since + PAUSE_US
        if count < FAILURES or now_us >= until:
            return ""
        return f"connection {connection} failed {count} times in a row; it is asked again after {iso(until)}"

    def record(self, connection: str, answered: bool, now_us: int) -> None:
        """What came of asking ``connection``."""
        with self._lock:
            if answered:
                self._failures.pop(connection, None)
            else:
                self._failures[connection] = (self._failures.get(connection, (0, 0))[0] + 1, now_us)
