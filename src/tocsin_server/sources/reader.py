"""One open file that grows: its new lines, and the proof that it still is what was read so far."""

from __future__ import annotations

import os
from dataclasses import dataclass

from tocsin_server.chunks import KEPT_BYTES
from tocsin_server.dialects import strip_bom
from tocsin_server.sources.checkpoint import (
    CHECKED_BYTES,
    Checkpoint,
    Identity,
    digest,
    first,
    generation,
    last,
)


class StartedAnewError(Exception):
    """The file no longer holds the bytes that were read: it was truncated or written anew.

    ``shrank``: it is shorter than what was read; else only the bytes told. ``lost_bytes`` were seen in the
    file, but not read in time.
    """

    def __init__(self, *, shrank: bool, lost_bytes: int) -> None:
        super().__init__("the file began anew")
        self.shrank = shrank
        self.lost_bytes = lost_bytes


@dataclass(frozen=True, slots=True)
class Piece:
    """Whole lines at the reader's offset: ``data`` of ``length`` bytes of the file, which are more for a
    line that is too long, behind NULs or behind a byte order mark, and less by the newline that was added to
    a ``partial`` last line. ``before`` are the last bytes of the file up to the piece's end.
    """

    data: bytes
    length: int
    before: bytes
    is_cut: bool = False
    nul_bytes: int = 0
    partial: bool = False


@dataclass(slots=True)
class _LongLine:
    """A line that no read held whole: it has no newline before ``scanned``, and begins with NULs."""

    scanned: int
    nul_bytes: int = 0


class Reader:
    """Reads the regular file ``fd`` from ``offset``, where a line begins; never moves before it is told to
    (:meth:`take`).

    Between two reads it holds no bytes of an unfinished line, only where that line begins: memory does not
    grow with files, nor with lines. Its methods raise OSError as reading does.
    """

    def __init__(self, fd: int, offset: int) -> None:
        status = os.fstat(fd)
        self.fd = fd
        self.identity: Identity = status.st_dev, status.st_ino
        self.generation = generation(fd)
        self.offset = offset
        self.size = status.st_size
        self._head = first(fd, offset)
        self._before = last(fd, offset)
        self._seen = offset
        self._long: _LongLine | None = None

    @property
    def has_more(self) -> bool:
        """Whether the file held more, when last looked at, than the last read could take."""
        return self._seen < self.size

    @property
    def unread_bytes(self) -> int:
        """What the file held, when last looked at, behind the offset."""
        return max(0, self.size - self.offset)

    def grew(self) -> bool:
        """Looks whether the file holds more now than the last read could take."""
        self.size = max(self.size, os.fstat(self.fd).st_size)
        return self.has_more

    def read(self) -> Piece | None:
        """The next whole lines, about a mebibyte at most; None when the file does not hold a whole one.

        Raises StartedAnewError when the bytes before the offset are not those that were read.
        """
        before, self.size = self.size, os.fstat(self.fd).st_size
        if self.size < self.offset:
            raise StartedAnewError(shrank=True, lost_bytes=max(0, before - self.offset))
        if self._long and self.size < self._long.scanned:
            self._long = None
        if self._long:
            return self._read_on(self._long)
        return self._read_lines()

    def rest(self) -> Piece | None:
        """The last line, which has no newline, as far as it was read; for a file that nobody writes to."""
        if self._seen == self.offset:
            return None
        nul_bytes = self._long.nul_bytes if self._long else 0
        return self._line(self._seen, self._seen, nul_bytes, partial=True)

    def take(self, piece: Piece) -> None:
        """Moves behind a piece that is stored."""
        self.offset += piece.length
        self._before = piece.before
        if len(self._head) < CHECKED_BYTES:
            self._head = first(self.fd, self.offset)
        self._seen = max(self._seen, self.offset)
        self._long = None

    def start_anew(self) -> None:
        """Moves to the beginning."""
        self.offset = self._seen = 0
        self._head = self._before = b""
        self._long = None

    def checkpoint(self, path: str, source: str, piece: Piece | None = None) -> Checkpoint:
        """What to remember of the file as it is read, or as it will be when ``piece`` is stored."""
        offset = self.offset + (piece.length if piece else 0)
        is_same = piece is None or len(self._head) == CHECKED_BYTES
        head = self._head if is_same else first(self.fd, offset)
        before = piece.before if piece else self._before
        return Checkpoint(*self.identity, self.generation, offset, digest(head), digest(before), path, source)

    def _read_lines(self) -> Piece | None:
        """One read brings the lines and the bytes before them, so nothing comes between proof and lines."""
        checked = len(self._before)
        block = os.pread(self.fd, checked + KEPT_BYTES + 1, self.offset - checked)
        self._check(block[:checked])
        text = block[checked:]
        self._seen = self.offset + len(text)
        end = text.rfind(b"\n") + 1
        if end:
            return Piece(self._clean(text[:end]), end, block[: checked + end][-CHECKED_BYTES:])
        if len(text) > KEPT_BYTES:
            self._long = _LongLine(self.offset)
            return self._read_on(self._long)
        return None

    def _read_on(self, line: _LongLine) -> Piece | None:
        """Looks for the end of a long line, one block at a time."""
        self._check(last(self.fd, self.offset))
        block = os.pread(self.fd, KEPT_BYTES, line.scanned)
        end = block.find(b"\n")
        part = block if end < 0 else block[:end]
        if line.nul_bytes == line.scanned - self.offset:
            line.nul_bytes += len(part) - len(part.lstrip(b"\0"))
        line.scanned = self._seen = line.scanned + len(part)
        if end < 0:
            return None
        self._seen += 1
        return self._line(line.scanned, self._seen, line.nul_bytes)

    def _line(self, text_end: int, end: int, nul_bytes: int, *, partial: bool = False) -> Piece:
        """The line from the offset to ``end``: its first bytes, and of the NULs before them one, so that the
        parser refuses it as what it is.
        """
        hole = max(0, nul_bytes - 1) if text_end - self.offset > KEPT_BYTES else 0
        start = self.offset + hole
        kept = os.pread(self.fd, min(KEPT_BYTES, text_end - start), start)
        return Piece(
            data=self._clean(kept) + b"\n",
            length=end - self.offset,
            before=last(self.fd, end),
            is_cut=text_end - start > KEPT_BYTES,
            nul_bytes=hole,
            partial=partial,
        )

    def _clean(self, text: bytes) -> bytes:
        return strip_bom(text) if self.offset == 0 else text

    def _check(self, before: bytes) -> None:
        if before != self._before:
            raise StartedAnewError(shrank=False, lost_bytes=0)
