"""The spool: a write-ahead log for lines that come from a stream and cannot be read a second time.

A segment is readable NDJSON. Each batch ends with a trailer line that names source, position, length and
CRC-32 of the bytes before it, and the segment's random nonce, which a hostile line cannot know. One
``fdatasync`` makes a group of batches durable; only then may they be acknowledged. The file's name holds
start time, nonce and format version.

Reading never needs a human: bytes after the last trailer were never acknowledged and are cut; a batch whose
CRC does not fit, or whose trailer is damaged, is quarantined and counted; all others are served.
"""

from __future__ import annotations

import json
import os
import secrets
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

SUFFIX = ".v1.ndjson"
_MARK = b"#tocsin-"
_NEWLINE = 10


@dataclass(frozen=True, slots=True)
class Batch:
    """Whole lines of one stream, and all that is needed to load them after a crash.

    ``position`` is where the lines begin in the source and ``length`` how many of its bytes they are
    (``data`` may be shorter for a huge line, or longer by the newline that a stream's last line lacked);
    ``received_at`` is in µs. ``stream_length``, ``stream_head`` and ``stream_sha256`` (hex) are the identity
    of the stream from its beginning to the end of this batch. ``is_tail`` says that this is a last line that
    had no newline; ``supersedes`` is the content (see the manifest) whose last line without newline is read
    again at the beginning of this batch.

    ``checkpoint`` (an identity and a body) says where a followed file goes on after this batch; ``key`` and
    ``answer`` are the Idempotency-Key of a batch and what was answered to it.
    """

    source: str
    position: int
    length: int
    received_at: int
    data: bytes
    service: str | None = None
    stream_length: int = 0
    stream_head: str = ""
    stream_sha256: str = ""
    is_tail: bool = False
    supersedes: int | None = None
    environment: str | None = None
    checkpoint: tuple[str, dict[str, Any]] | None = None
    key: str | None = None
    answer: dict[str, Any] | None = None


@dataclass(slots=True)
class Recovery:
    """What reading a segment found besides good batches, in bytes."""

    truncated_bytes: int = 0
    quarantined_bytes: int = 0
    quarantined: list[bytes] = field(default_factory=list)

    def quarantine(self, broken: bytes) -> None:
        """Keeps bytes that were written whole but are damaged now."""
        if broken:
            self.quarantined_bytes += len(broken)
            self.quarantined.append(broken)

    def add(self, other: Recovery) -> None:
        """Adds what another segment held."""
        self.truncated_bytes += other.truncated_bytes
        self.quarantined_bytes += other.quarantined_bytes
        self.quarantined += other.quarantined


class Segment:
    """An open segment; one writer. After a failed write or sync it refuses to go on (never retry an
    ``fsync``).
    """

    def __init__(self, folder: Path, started_at: int, nonce: str | None = None) -> None:
        nonce = nonce or secrets.token_hex(8)
        self.path = folder / f"{started_at:016d}-{nonce}{SUFFIX}"
        self.bytes = 0
        self._mark = _mark(self.path)
        self._suspect = False
        self._fd = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o600)
        sync_directory(folder)

    def append(self, batch: Batch) -> None:
        """Writes a batch and its trailer; it is durable only after :meth:`commit`."""
        self._write(batch.data + _trailer(batch, self._mark))

    def commit(self) -> None:
        """One ``fdatasync`` for everything appended so far. Raises OSError once and for all if the disk
        refuses.
        """
        self._guard()
        try:
            os.fdatasync(self._fd)
        except OSError:
            self._suspect = True
            raise

    def cut(self, length: int) -> None:
        """Leaves only the first ``length`` bytes: what follows was refused, and may come again."""
        os.ftruncate(self._fd, length)

    def close(self) -> None:
        """Closes the file."""
        os.close(self._fd)

    def _write(self, data: bytes) -> None:
        self._guard()
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            self._suspect = True
            raise
        self.bytes += len(data)

    def _guard(self) -> None:
        if self._suspect:
            raise OSError(f"spool segment {self.path} failed to write before; open a new one")


def read_segment(path: Path, recovery: Recovery) -> Iterator[Batch]:
    """The good batches of a segment, in order; what is not good is accounted for in ``recovery``."""
    data, mark = path.read_bytes(), _mark(path)
    done = search = damaged = 0
    while (at := data.find(mark, search)) >= 0:
        search = data.find(b"\n", at) + 1 or len(data)
        trailer = _parse_trailer(data[at + len(mark) : search])
        if trailer is None:
            damaged = search if data[search - 1] == _NEWLINE else damaged
            continue
        start, end = at - trailer.pop("bytes"), at + len(mark) + trailer.pop("end")
        crc32 = trailer.pop("crc32")
        intact = start >= done and zlib.crc32(data[start:at]) == crc32
        recovery.quarantine(data[done : start if intact else at])
        if intact:
            yield Batch(data=data[start:at], **trailer)
        done = search = min(end, len(data))
    if damaged > done:  # the last trailer: its line was written to the end, so its batch may be acknowledged
        recovery.quarantine(data[done:damaged])
        done = damaged
    recovery.truncated_bytes += len(data) - done


def segments(folder: Path) -> list[Path]:
    """The folder's segments, oldest first."""
    return sorted(folder.glob(f"*{SUFFIX}"))


def sync_directory(folder: Path) -> None:
    """Makes the folder's entries (new, renamed, removed files) durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _mark(path: Path) -> bytes:
    """What each trailer line of this segment begins with."""
    return _MARK + path.name.removesuffix(SUFFIX).partition("-")[2].encode() + b" "


def _trailer(batch: Batch, mark: bytes) -> bytes:
    """The trailer line: a JSON pair of a CRC-32 and the JSON text that it protects."""
    values = ((f.name, getattr(batch, f.name)) for f in fields(batch) if f.name != "data")
    about = {name: value for name, value in values if value is not None}
    body = json.dumps(
        about | {"bytes": len(batch.data), "crc32": zlib.crc32(batch.data)}, separators=(",", ":")
    )
    return mark + json.dumps([zlib.crc32(body.encode()), body]).encode() + b"\n"


def _parse_trailer(text: bytes) -> dict[str, Any] | None:
    """The trailer's fields and where it ends with its newline (``end``), or None when it is damaged itself.

    What follows the pair is not looked at: a newline that rotted away costs nothing.
    """
    try:
        (crc, body), length = json.JSONDecoder().raw_decode(text.decode("utf-8", "replace"))
        return json.loads(body) | {"end": length + 1} if zlib.crc32(body.encode()) == crc else None
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
