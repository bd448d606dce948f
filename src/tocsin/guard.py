"""Our failures never reach the host, and are counted.

Every place where the emitter could fail in the host's hands reports to the one :class:`Guard` of the process.
The test suite turns each report into a failed test.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from threading import RLock

#: At most one line on stderr in this many seconds.
COMPLAIN_EVERY_S = 60.0


class ForkSafeLock:
    """A re-entrant lock that a fork cannot leave held: the child process starts with a new one.

    Re-entrant, because a signal handler may emit while its own thread holds the lock.
    """

    __slots__ = ("_lock", "_pid")

    def __init__(self) -> None:
        """A free lock."""
        self._lock, self._pid = RLock(), os.getpid()

    def __enter__(self) -> None:
        """Waits for the lock."""
        if self._pid != os.getpid():
            self._lock, self._pid = RLock(), os.getpid()
        self._lock.acquire()

    def __exit__(self, *exc_info: object) -> None:
        """Releases it."""
        self._lock.release()


def complain(text: str) -> None:
    """One line on stderr, if there is one to write to."""
    with suppress(Exception):
        sys.stderr.write(f"tocsin: {text}\n")
        sys.stderr.flush()


class Guard:
    """Counts the lines that were lost, by reason, and says so on stderr at most once a minute."""

    def __init__(
        self, monotonic: Callable[[], float] = time.monotonic, complain: Callable[[str], None] = complain
    ) -> None:
        """``monotonic`` measures seconds; ``complain`` takes the line for stderr."""
        self._monotonic = monotonic
        self._complain = complain
        self._quiet_until = float("-inf")
        self._lock = ForkSafeLock()
        self.counts: dict[str, int] = {}
        self.unreported = 0

    @property
    def dropped(self) -> int:
        """Lines lost since the process started, also those lost where nothing could be reported any more."""
        return sum(list(self.counts.values())) + self.unreported

    def failed(self, reason: str, error: BaseException | None = None, lines: int = 1) -> None:
        """Counts lost lines. Of ``error`` only the class is ever shown: its text may quote a student."""
        error = (error and error.__cause__) or error
        with self._lock:
            self.counts[reason] = self.counts.get(reason, 0) + lines
            now = self._monotonic()
            speak = now >= self._quiet_until
            if speak:
                self._quiet_until = now + COMPLAIN_EVERY_S
        if speak:
            cause = f", {type(error).__name__}" if error is not None else ""
            self._complain(
                f"lines lost so far: {self.dropped} (last: {reason}{cause}); the application goes on"
            )

    def forget(self) -> None:
        """A forked child has lost nothing yet."""
        self.counts, self.unreported, self._quiet_until = {}, 0, float("-inf")


#: The guard of this process.
GUARD = Guard()

os.register_at_fork(after_in_child=GUARD.forget)
