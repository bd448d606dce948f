"""Lines to standard output, whole and in one piece, whatever happens to it."""

from __future__ import annotations

import io
import os
import select
import stat
import sys
from collections.abc import Iterator
from typing import TextIO

from tocsin.guard import ForkSafeLock

#: What one write to a pipe never tears, even if other processes write to it (POSIX; Linux and macOS differ).
PIPE_BYTES = select.PIPE_BUF
_FILE_BYTES = 64 * 1024


class LostLinesError(OSError):
    """Standard output did not take ``lost_lines`` of the lines."""

    def __init__(self, lost_lines: int) -> None:
        """``lost_lines`` were not written."""
        super().__init__(f"{lost_lines} lines were not written")
        self.lost_lines = lost_lines


class StdoutSink:
    """Writes lines to standard output, as it is at that moment.

    The bytes go straight to the file descriptor: a line that cannot be written (closed pipe, full disk) stays
    in no buffer where it would break the host's own exit. What the host has printed is flushed first, if the
    descriptor takes it, so that no line lands inside one of the host's. Lines for a pipe go in pieces that
    the kernel does not mix with those of other processes. After a line that was written in part, the next one
    starts on a fresh line. Raises OSError for lines that could not be written.
    """

    linger_s = 0.005
    batch_lines = 128

    def __init__(self) -> None:
        """Opens nothing: the stream is looked up for each batch."""
        self._lock = ForkSafeLock()
        self._torn = False
        self._stream: object = None
        self._has_descriptor = True

    def has_descriptor(self) -> bool:
        """Whether standard output is a file or a pipe now, not an object that somebody put in its place."""
        stream = sys.stdout
        if stream is not self._stream:
            output = _output()
            self._stream, self._has_descriptor = stream, output is None or _descriptor(output) is not None
        return self._has_descriptor

    def __call__(self, lines: list[bytes]) -> None:
        """Writes ``lines``; waits for as long as the reader does not read."""
        self._deliver(lines, may_wait=True)

    def without_waiting(self, lines: list[bytes]) -> None:
        """Writes ``lines`` if they are taken at once."""
        self._deliver(lines, may_wait=False)

    def _deliver(self, lines: list[bytes], *, may_wait: bool) -> None:
        stream = _output()
        if stream is None:
            raise OSError("there is no standard output")
        descriptor = _descriptor(stream)
        with self._lock:
            if descriptor is None:
                _write_text(stream, lines)
                return
            if _takes_more(descriptor):
                stream.flush()
            self._write_all(descriptor, lines, may_wait)

    def _write_all(self, descriptor: int, lines: list[bytes], may_wait: bool) -> None:
        is_pipe = stat.S_ISFIFO(os.fstat(descriptor).st_mode)
        written = 0
        try:
            for piece, count in _pieces(lines, PIPE_BYTES if is_pipe else _FILE_BYTES):
                if not may_wait and not _takes_more(descriptor):
                    raise BlockingIOError
                self._write(descriptor, piece)
                written += count
        except OSError as error:
            raise LostLinesError(len(lines) - written) from error

    def _write(self, descriptor: int, piece: bytes) -> None:
        rest = b"\n" + piece if self._torn else piece
        while rest:
            written = os.write(descriptor, rest)
            self._torn = written < len(rest)
            rest = rest[written:]


#: The one of this process: the lock and the torn line are standard output's, not a configuration's.
STDOUT = StdoutSink()


def _pieces(lines: list[bytes], most_bytes: int) -> Iterator[tuple[bytes, int]]:
    """Whole lines put together to at most ``most_bytes`` (a longer line stands alone), and how many."""
    if len(lines) == 1:
        yield lines[0], 1
        return
    piece: list[bytes] = []
    size = 0
    for line in lines:
        if piece and size + len(line) > most_bytes:
            yield b"".join(piece), len(piece)
            piece, size = [], 0
        piece.append(line)
        size += len(line)
    if piece:
        yield b"".join(piece), len(piece)


def _output() -> TextIO | None:
    """``sys.stdout``; behind a stand-in that is no stream, the real one.

    Celery's workers put there what hands to `logging` all that is printed, Dramatiq's a connection with
    frames: there a line would come out as part of another, or break the host's own.
    """
    is_stream = sys.stdout is None or isinstance(sys.stdout, io.IOBase)
    return sys.stdout if is_stream else sys.__stdout__


def _descriptor(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (AttributeError, OSError, ValueError):  # UnsupportedOperation is both of these
        return None


def _takes_more(descriptor: int) -> bool:
    """Whether a write would not wait now; where nobody can say (a file), it would not."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(0))


def _write_text(stream: TextIO, lines: list[bytes]) -> None:
    """For a replaced ``sys.stdout`` without a file descriptor: a notebook, a test's capture."""
    stream.write(b"".join(lines).decode())
    stream.flush()
