"""SIGTERM where nobody handles it: write what is waiting, then end as the signal would have ended it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType


def flush_first(flush: Callable[[], bool]) -> None:
    """Installs a handler if SIGTERM has none yet, from the main thread; a handler of the host is left alone.

    A handler that the host installs later takes its place. If that one calls ours, ours only flushes.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return

    def on_sigterm(number: int, frame: FrameType | None) -> None:
        flush()
        if signal.getsignal(number) is on_sigterm:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, on_sigterm)
