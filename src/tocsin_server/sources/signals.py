"""Being told to stop: what was read from a stream is stored before the process ends (reliability row D13)."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stop_signals() -> Iterator[int]:
    """A file descriptor that becomes readable on SIGINT or SIGTERM, instead of an exception at any moment.

    Use it in the main thread.
    """
    told, tell = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    stops = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: None) for number in stops}
    wakeup = signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    try:
        yield told
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(told)
        os.close(tell)
