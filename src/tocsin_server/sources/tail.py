"""Follows files that grow: log files of running services, also when they are rotated or truncated.

Each round reads a bounded piece of every file that changed, and hands it over together with the checkpoint
behind it, to be stored as one. What is not stored is read again. docs/tailing.md says what is promised.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tocsin_server.clock import SECOND_US, Clock
from tocsin_server.config import FileSource
from tocsin_server.errors import TocsinError
from tocsin_server.sources.checkpoint import Checkpoint
from tocsin_server.sources.discovery import signature, source_name
from tocsin_server.sources.openfiles import OpenFile, OpenFiles, Trouble
from tocsin_server.sources.reader import Piece, StartedAnewError

#: New and renamed files are looked for this often.
DISCOVERY_US = SECOND_US

COUNTERS = (
    "tail_truncations_total",  # files that began anew: truncated, or written anew in place
    "tail_rewrites_total",  # of these, how many only their content told, not their size
    "tail_bytes_lost_total",  # seen in a file that was truncated or removed before they were read
    "tail_errors_total",
    "tail_long_lines_total",  # lines of which only the first mebibyte was kept
    "tail_nul_bytes_total",  # left out: holes before a line
)


@dataclass(frozen=True, slots=True)
class TailBatch:
    """Whole lines of one file, each ending in a newline, to be stored durably together with ``checkpoint``.

    ``source`` names the log, also for its rotated files. ``length`` is how many bytes of the file these are:
    more than ``data`` for a line beyond a mebibyte, less by the newline that was added to a ``partial`` last
    line. ``received_at`` is in µs since the epoch, UTC.
    """

    source: str
    data: bytes
    length: int
    checkpoint: Checkpoint
    service: str | None
    environment: str | None
    received_at: int
    partial: bool = False


class Tail:
    """Follows the files that ``sources`` name, from where ``checkpoints`` (the newest of each file last) say.

    ``known(fd, length)`` answers how many first bytes of an open file that no checkpoint is about are loaded
    already. ``counters`` are the process's own, by the names in COUNTERS. Nothing is read before the first
    :meth:`poll`; one thread polls, others may ask for :meth:`health`.
    """

    def __init__(
        self,
        sources: Sequence[FileSource],
        checkpoints: Iterable[Checkpoint],
        clock: Clock,
        known: Callable[[int, int], int],
    ) -> None:
        self.counters: Counter[str] = Counter(dict.fromkeys(COUNTERS, 0))
        self._sources = sources
        self._clock = clock
        self._open = OpenFiles(sources, checkpoints, known, self.counters)
        self._discovered_at: int | None = None

    def poll(self, append: Callable[[TailBatch], None]) -> bool:
        """One round over all files, at most about a mebibyte of each; True when there is more to read now.

        ``append`` returns when the batch is durable. If it raises OSError or TocsinError, the file stays
        where it is, and its lines come again in a later round, after four seconds at most.
        """
        now = self._clock()
        if self._discovered_at is None or not 0 <= now - self._discovered_at < DISCOVERY_US:
            self._discovered_at = now if self._open.discover(now) else None
        has_more = False
        unfinished: set[str] = set()  # the generations of a log are read one after the other
        for file in list(self._open.files.values()):
            if file.source not in unfinished and not self._follow(file, append, now):
                unfinished.add(file.source)
                has_more = has_more or file.trouble is None
        return has_more

    def health(self) -> list[dict[str, Any]]:
        """One row per file: ``source``, ``path``, ``service``, ``environment``, ``size``, ``offset`` and
        ``lag_bytes`` (bytes), ``last_read_at`` (µs, None: never), ``state`` and ``error``.

        ``state``: ``following``, ``rotated``, ``failing``, or ``missing`` for a pattern that matches nothing.
        """
        found, troubles = list(self._open.listing.found), dict(self._open.troubles)
        rows = [_row(file) for file in list(self._open.files.values())]
        shown = {row["path"] for row in rows}
        for one in found:
            parked, path = self._open.parked.get(one.identity), source_name(one.path)
            if parked and path == parked.checkpoint.source and path not in shown:
                point, trouble = parked.checkpoint, troubles.pop(one.path, None)
                rows.append(_health(path, one.settings, trouble, size=parked.size, offset=point.offset))
        rows += [_health(source_name(path), None, trouble) for path, trouble in troubles.items()]
        missing = [one for one in self._sources if all(other.settings is not one for other in found)]
        return rows + [_missing(settings) for settings in missing]

    def close(self) -> None:
        """Closes all files; what was not stored is read by the next one."""
        self._open.close()

    def _follow(self, file: OpenFile, append: Callable[[TailBatch], None], now: int) -> bool:
        """Reads one piece of a file; whether it has reached the end."""
        if file.trouble and now < file.trouble.retry_at:
            return False
        try:
            piece = self._next(file, now)
        except OSError as error:
            self._open.give_up(file, error, now)
            return True
        if piece and not self._store(file, piece, append, now):
            return False
        if file.is_over(now) and (piece is None or piece.partial):
            self._open.park(file, now)
        return not file.reader.has_more

    def _next(self, file: OpenFile, now: int) -> Piece | None:
        """What to store next: whole lines, or the last line of a file that nobody writes to any more."""
        changed = signature(os.fstat(file.reader.fd))
        if changed == file.signature and file.is_quiet(now):
            return file.reader.rest() if file.is_over(now) else None
        if changed != file.signature:
            file.signature, file.changed_at = changed, now
        try:
            return file.reader.read()
        except StartedAnewError as told:
            self._open.count_anew(shrank=told.shrank, lost_bytes=told.lost_bytes)
            file.reader.start_anew()
            return file.reader.read()

    def _store(self, file: OpenFile, piece: Piece, append: Callable[[TailBatch], None], now: int) -> bool:
        try:
            append(_batch(file, piece, now))
        except (OSError, TocsinError) as error:
            self.counters["tail_errors_total"] += 1
            file.trouble, file.signature = Trouble.after(file.trouble, error, now), None
            return False
        file.reader.take(piece)
        file.trouble, file.last_read_at = None, now
        self.counters["tail_long_lines_total"] += piece.is_cut
        self.counters["tail_nul_bytes_total"] += piece.nul_bytes
        return True


def _batch(file: OpenFile, piece: Piece, now: int) -> TailBatch:
    return TailBatch(
        source=file.source,
        data=piece.data,
        length=piece.length,
        checkpoint=file.reader.checkpoint(source_name(file.path), file.source, piece),
        service=file.settings.service,
        environment=file.settings.environment,
        received_at=now,
        partial=piece.partial,
    )


def _row(file: OpenFile) -> dict[str, Any]:
    reader, trouble = file.reader, file.trouble
    row = _health(source_name(file.path), file.settings, trouble, size=reader.size, offset=reader.offset)
    row |= {"source": file.source, "last_read_at": file.last_read_at}
    return row | ({"state": "rotated"} if file.rotated_at is not None and not trouble else {})


def _missing(settings: FileSource) -> dict[str, Any]:
    error = "no file matches; check the path, and that its folder can be read"
    return _health(source_name(str(settings.file)), settings) | {"state": "missing", "error": error}


def _health(
    path: str, settings: FileSource | None, trouble: Trouble | None = None, size: int = 0, offset: int = 0
) -> dict[str, Any]:
    return {
        "source": path,
        "path": path,
        "service": settings.service if settings else None,
        "environment": settings.environment if settings else None,
        "size": size,
        "offset": offset,
        "lag_bytes": max(0, size - offset),
        "last_read_at": None,
        "state": "failing" if trouble else "following",
        "error": trouble.message if trouble else None,
    }
