"""Runs the probes of the settings on time, each for itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tocsin_server.clock import SECOND_US, Clock
from tocsin_server.config import Probe
from tocsin_server.errors import TocsinError
from tocsin_server.probes.http import TIMEOUT_S

#: Checks start this long before the multiples of their interval, so that the answer, or the lack of one, is
#: there when the rules look at that instant.
LEAD_US = round((TIMEOUT_S + 1) * SECOND_US)


def due_at(every_us: int, now_us: int) -> int:
    """The last planned start at or before ``now_us``: aligned to the wall clock, so that nothing drifts."""
    return (now_us + LEAD_US) // every_us * every_us - LEAD_US


class Prober:
    """Starts the checks that are due and hands each result to ``append`` as one line.

    ``check`` makes the line of a probe (:func:`tocsin_server.probes.check` with its settings bound). Every
    probe has its own thread, so that a slow target delays no other; a check that still runs when its next is
    due is not started twice.
    """

    def __init__(
        self,
        probes: Sequence[Probe],
        append: Callable[[bytes], None],
        clock: Clock,
        check: Callable[[Probe], bytes],
    ) -> None:
        self._probes, self._append, self._clock, self._check = tuple(probes), append, clock, check
        now_us = clock()
        self._started = [due_at(probe.every, now_us) for probe in probes]
        self._health: list[dict[str, Any]] = [_never(probe) for probe in probes]
        self._running: set[int] = set()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(max(1, len(probes)), thread_name_prefix="probe")

    def next_at(self, now_us: int) -> int | None:
        """When :meth:`step` has something to do again (µs); None without probes."""
        return min((due_at(probe.every, now_us) + probe.every for probe in self._probes), default=None)

    def step(self, now_us: int) -> int:
        """Starts every check that became due since the last call; returns how many, and waits for none."""
        started = 0
        for index, probe in enumerate(self._probes):
            planned = due_at(probe.every, now_us)
            if planned <= self._started[index]:
                continue
            self._started[index] = planned
            with self._lock:
                busy = index in self._running
                self._running.add(index)
            if not busy:
                self._pool.submit(self._run, index)
                started += 1
        return started

    def health(self) -> list[dict[str, Any]]:
        """Per probe: ``target``, ``url``, ``checked_at`` (µs, None: never) and ``error`` (a result that could
        not be stored).
        """
        with self._lock:
            return [dict(one) for one in self._health]

    def close(self) -> None:
        """Waits for the checks that run, at most their timeout."""
        self._pool.shutdown(cancel_futures=True)

    def _run(self, index: int) -> None:
        error = "the check stopped in an unexpected way"
        try:
            self._append(self._check(self._probes[index]))
            error = ""
        except (OSError, TocsinError) as failed:
            error = f"the result of the check was not stored: {failed}"
        finally:
            with self._lock:
                self._running.discard(index)
                self._health[index] |= {"checked_at": self._clock(), "error": error}


def _never(probe: Probe) -> dict[str, Any]:
    return {"target": probe.target, "url": probe.http, "checked_at": None, "error": ""}
