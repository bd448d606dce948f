"""A step of the flow on a thread of its own: it runs when it is due or woken, and never dies.

A step that fails is told in the log and in the status, and is tried again after a pause that grows to half a
minute; the other steps go on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from tocsin_server.clock import SECOND_US, Clock

_log = logging.getLogger(__name__)

#: Longest sleep between two looks, in seconds: how late a step can notice that the clock was moved.
_LONGEST_S = 5.0
_LONGEST_PAUSE_S = 30.0
_MOST_DOUBLINGS = 10


class Loop:
    """Calls ``step(now in µs)`` on a thread; the step answers when it is due again (µs), or None when only
    :meth:`wake` can bring something to do.
    """

    def __init__(self, name: str, clock: Clock, step: Callable[[int], int | None]) -> None:
        self.name = name
        self._clock, self._step = clock, step
        self._woken, self._stopped = threading.Event(), threading.Event()
        self._failures = 0
        self._error: str | None = None
        self._last_at: int | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def wake(self) -> None:
        """There may be something to do."""
        self._woken.set()

    def ask_to_stop(self) -> None:
        """No step is begun any more."""
        self._stopped.set()
        self._woken.set()

    def stop(self, timeout_s: float) -> None:
        """Lets the step that runs finish, and ends the thread."""
        self.ask_to_stop()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def status(self) -> dict[str, Any]:
        """Whether the last step worked, and when that was."""
        return {
            "step": self.name,
            "ok": self._error is None and self._thread.is_alive(),
            "error": self._error,
            "last_at": self._last_at,
        }

    def _run(self) -> None:
        while True:
            self._woken.clear()
            if self._stopped.is_set():  # looked at after the clear: the wake of a stop is not lost
                return
            self._woken.wait(self._once())

    def _once(self) -> float:
        """One step; answers how long to sleep, in seconds."""
        try:
            due = self._step(self._clock())
        except Exception as error:
            self._failures += 1
            self._error = f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
            _log.exception("%s failed", self.name)
            return min(2.0 ** min(self._failures - 1, _MOST_DOUBLINGS), _LONGEST_PAUSE_S)
        self._failures, self._error, self._last_at = 0, None, self._clock()
        if due is None:
            return _LONGEST_S
        return min(max(0.0, (due - self._clock()) / SECOND_US), _LONGEST_S)
