"""Where lines go. A sink is a callable that takes one whole line of bytes, newline included.

A sink may raise: the emitter counts the lost line and goes on. It is called in the thread that emits.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from io import UnsupportedOperation
from typing import TextIO

from tocsin.guard import ForkSafeLock

Sink = Callable[[bytes], None]


class StdoutSink:
    """Writes each line whole to standard output, as it is at that moment.

    The bytes go straight to the file descriptor, behind what the host has printed so far: a line that cannot
    be written (closed pipe, full disk) stays in no buffer where it would break the host's own exit. After a
    line that was written in part, the next one starts on a fresh line. Raises OSError when the line could not
    be written.
    """

    def __init__(self) -> None:
        """Opens nothing: the stream is looked up for each line."""
        self._lock = ForkSafeLock()
        self._torn = False

    def __call__(self, line: bytes) -> None:
        """Writes ``line``."""
        stream = sys.stdout
        if stream is None:
            raise OSError("there is no standard output")
        with self._lock:
            try:
                descriptor = stream.fileno()
            except (AttributeError, UnsupportedOperation):
                _write_text(stream, line)
            else:
                stream.flush()
                self._write(descriptor, line)

    def _write(self, descriptor: int, line: bytes) -> None:
        rest = b"\n" + line if self._torn else line
        while rest:
            written = os.write(descriptor, rest)
            self._torn = written < len(rest)
            rest = rest[written:]


#: The one of this process: the lock and the torn line are standard output's, not a configuration's.
STDOUT = StdoutSink()


def _write_text(stream: TextIO, line: bytes) -> None:
    """For a replaced ``sys.stdout`` without a file descriptor: a notebook, a test's capture."""
    stream.write(line.decode())
    stream.flush()
