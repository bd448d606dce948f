"""The collector: lines of every live source become durable here, and events soon after.

:meth:`Collector.append` returns when its lines are on disk: threads write to one spool segment and share its
``fdatasync`` (group commit). :meth:`Collector.flush` seals what was written into the events table; whoever
reads through :meth:`Collector.connect` sees everything that was acknowledged before. So there is one copy of
an event at a time, and no second path to query.

A full disk refuses lines (:class:`StorageError`) and loses none; the next append tries a new segment.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb

from tocsin_server.clock import SECOND_US, Clock
from tocsin_server.columns import Event
from tocsin_server.compact import drop, expired, merge, mergeable
from tocsin_server.dialects import Context, Parsed, Rejected, is_certain, parse_line
from tocsin_server.duplicates import RecentIds
from tocsin_server.errors import BusyError, TocsinError
from tocsin_server.load import Options, Workers
from tocsin_server.sources.streams import seal
from tocsin_server.spool import Batch, Recovery, Segment, segments
from tocsin_server.sql import Limits, Result, guard, lock, run
from tocsin_server.store import Store, duckdb_connection, parquet

#: A segment is sealed at this size or age even when nobody reads.
SEGMENT_BYTES = 32 << 20
SEGMENT_US = 30 * SECOND_US
#: A file that left the table is deleted after this: longer than any reader may take.
RETIRED_US = 300 * SECOND_US
#: Idempotency keys are honoured for this long (row I6).
KEY_US = 86_400 * SECOND_US
#: Lines of one batch: each that is refused is in the answer.
MOST_LINES = 500_000
#: Statements of people that run at once (reliability table 3.2); the others wait.
MOST_QUERIES = 2
_THREADS = 2
#: What may pass, so that a segment is tried again: the disk, or the memory, is full.
_TRANSIENT = (OSError, MemoryError, duckdb.IOException, duckdb.OutOfMemoryException, sqlite3.OperationalError)

_log = logging.getLogger(__name__)


class StorageError(TocsinError):
    """Lines cannot be made durable now; they are refused, and may be sent again."""


@dataclass(frozen=True, slots=True)
class Lines:
    """Whole lines of one live source. ``length`` is how many bytes of the source they are, when ``data`` is
    not exactly those; the rest as in :class:`tocsin_server.spool.Batch`.
    """

    source: str
    data: bytes
    length: int | None = None
    service: str | None = None
    environment: str | None = None
    checkpoint: tuple[str, dict[str, Any]] | None = None
    key: str | None = None
    answer: dict[str, Any] | None = None


@dataclass(slots=True)
class _Judged:
    """What will become of a batch's lines. ``events`` are those that had to be looked at whole."""

    received: int = 0
    blank: int = 0
    rejected: list[dict[str, Any]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def detail(self, repeated: Sequence[Event]) -> dict[str, Any]:
        names = Counter(event.name or "log" for event in self.events)
        names.subtract(event.name or "log" for event in repeated)
        logs = names.pop("log", 0)
        return {"events": dict(sorted((+names).items())), "logs": logs, "blank": self.blank}


def _judge(data: bytes, context: Context, *, whole: bool) -> _Judged:
    """Looks at each line; unless ``whole``, no closer than it takes to say whether it will be stored."""
    judged = _Judged()
    for number, raw in enumerate(data.split(b"\n")[:-1], 1):
        if not whole and is_certain(raw):
            judged.received += 1
            continue
        parsed = parse_line(raw, context)
        judged.received += parsed is not None
        judged.blank += parsed is None
        if isinstance(parsed, Rejected):
            judged.rejected.append({"line": number, "reason": parsed.reason})
        elif isinstance(parsed, Parsed):
            judged.events.append(parsed.event)
    return judged


class _Open:
    """The segment that is written to: how many bytes of whole appends it holds, how many are durable."""

    def __init__(self, segment: Segment, opened_at: int) -> None:
        self.segment, self.opened_at = segment, opened_at
        self.appended = self.durable = 0
        self._committing = threading.Lock()

    def commit(self, mine: int) -> None:
        """One ``fdatasync`` for everybody who waits. Raises OSError unless the first ``mine`` bytes are
        durable.
        """
        with self._committing:
            if self.durable < mine:
                appended = self.appended
                self.segment.commit()
                self.durable = appended

    def close(self) -> None:
        """Closes the file; who still waits for its append is told by :meth:`commit` how it went. What is not
        durable was refused and is cut off: it may come again, and must not be stored twice.
        """
        with self._committing:
            with suppress(OSError):
                self.segment.cut(self.durable)
            self.segment.close()


class Collector:
    """The one writer of a data folder; use inside ``store.writing()``. Its methods may be called from any
    thread.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self.recovery = Recovery()
        self._store, self._clock = store, clock
        self._workers = Workers(_THREADS)
        self._appending = threading.Lock()
        self._sealing = threading.RLock()
        self._open: _Open | None = None
        self._closed = False
        self._queries = threading.BoundedSemaphore(MOST_QUERIES)
        self._waiting: deque[Path] = deque()
        self._positions: dict[str, int] = {}
        #: Answers by key that are not sealed yet: of the open segment, and of the one being sealed.
        self._answers: dict[str, dict[str, Any]] = {}
        self._sealing_answers: dict[str, dict[str, Any]] = {}
        self._in_flight: set[str] = set()
        self._answered = threading.Condition()
        self._known_ids = threading.Lock()
        self._ids: RecentIds | None = None
        self._retired: deque[tuple[int, Path]] = deque()
        self._database: duckdb.DuckDBPyConnection = duckdb_connection(_THREADS)
        self.error: str | None = None
        self._recover()

    def _recover(self) -> None:
        """Seals what an earlier process left."""
        self._waiting.extend(segments(self._store.spool))
        self._seal_waiting()

    def close(self) -> None:
        """Seals everything and stops the threads; what comes later is refused."""
        with self._sealing:
            try:
                self.flush()
            finally:
                with self._appending:
                    self._closed = True
                    opened, self._open = self._open, None
                if opened is not None:  # came after the flush: the next process seals it
                    self._finish(opened)
                self._workers.close()
                self._database.close()

    # Writing

    def append(self, batches: Sequence[Lines]) -> None:
        """Makes lines durable; when it returns they are. Raises StorageError when the disk refuses."""
        now, opened = self._clock(), None
        try:
            with self._appending:
                self._refuse_when_closed()
                opened = self._open = self._open or _Open(Segment(self._store.spool, now), now)
                for lines in batches:
                    opened.segment.append(self._batch(lines, now))
                mine = opened.appended = opened.segment.bytes
            opened.commit(mine)
        except OSError as error:
            self._abandon(opened, error)
            raise StorageError(
                f"lines cannot be written to {self._store.spool}: {error.strerror or error}; free some space"
            ) from None
        self.error = None
        if opened.segment.bytes >= SEGMENT_BYTES:
            self._refresh()

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise StorageError("the server stops: send these lines again when it runs")

    def _batch(self, lines: Lines, now: int) -> Batch:
        position = self._positions.get(lines.source)
        if position is None:
            position = self._store.manifest.source(lines.source)[0]
        length = len(lines.data) if lines.length is None else lines.length
        self._positions[lines.source] = position + length
        return Batch(
            source=lines.source,
            position=position,
            length=length,
            received_at=now,
            data=lines.data,
            service=lines.service,
            environment=lines.environment,
            checkpoint=lines.checkpoint,
            key=lines.key,
            answer=lines.answer,
        )

    def _abandon(self, opened: _Open | None, error: OSError) -> None:
        """After a failed write a segment is closed for good; what was durable in it is sealed later."""
        self.error = error.strerror or str(error)
        with self._appending:
            if opened is not None and self._open is opened:
                self._open = None
                opened.close()
                self._waiting.append(opened.segment.path)

    # From the spool to the table

    def flush(self) -> None:
        """Makes everything that is durable part of the events table. Raises StorageError when the disk
        refuses.
        """
        with self._sealing:
            if self._closed:
                return
            with self._appending:
                opened, self._open = self._open, None
                if opened is not None:
                    self._waiting.append(opened.segment.path)
                    self._sealing_answers |= self._answers
                    self._answers = {}
            if opened is not None:
                self._finish(opened)
            self._seal_waiting()
            self._sealing_answers = {}

    def _finish(self, opened: _Open) -> None:
        try:
            opened.commit(opened.appended)
        except OSError as error:  # whoever waits for these lines is told by its own commit
            self.error = error.strerror or str(error)
        opened.close()

    def _seal_waiting(self) -> None:
        while self._waiting:
            path = self._waiting[0]
            try:
                self.recovery.add(seal(self._store, path, Options(threads=_THREADS), self._workers)[1])
            except _TRANSIENT as error:
                self.error = getattr(error, "strerror", None) or " ".join(str(error).split())
                raise StorageError(
                    f"events cannot be written to {self._store.events}: {self.error}; free some space"
                ) from None
            except Exception as error:  # a fault of ours must not stop every line after it
                self._set_aside(path, error)
            self._waiting.popleft()

    def _set_aside(self, path: Path, error: Exception) -> None:
        """A segment that cannot be sealed is kept for a human, whole."""
        _log.exception("segment %s cannot be sealed; it is in %s", path.name, self._store.quarantine)
        self.recovery.quarantined_bytes += path.stat().st_size
        self.error = f"{path.name} could not be sealed and is in quarantine: {type(error).__name__}"
        path.rename(self._store.quarantine / path.name)

    def tick(self, now_us: int) -> None:
        """Seals a segment that grew old; called now and then."""
        opened = self._open
        if opened is not None and now_us - opened.opened_at >= SEGMENT_US:
            self.flush()

    def maintain(self, now_us: int, raw_us: int, max_bytes: int | None) -> None:
        """Merges small files, drops what retention no longer keeps, deletes what no reader uses any more."""
        files = self._store.manifest.files()
        while self._retired and now_us - self._retired[0][0] >= RETIRED_US:
            self._retired.popleft()[1].unlink(missing_ok=True)
        dropped = expired(files, now_us, raw_us, max_bytes)
        if dropped:
            self._retire(drop(self._store, dropped), now_us)
        self._store.expire(now_us)
        with self._store.manifest.transaction():
            self._store.manifest.expire_batch_keys(now_us - KEY_US)
        with self._database.cursor() as cursor:  # last, for it needs space
            for group in mergeable([file for file in files if file not in dropped]):
                self._retire(merge(cursor, self._store, group), now_us)

    def _retire(self, paths: Sequence[Path], now_us: int) -> None:
        self._retired.extend((now_us, path) for path in paths)

    # Reading

    @contextmanager
    def connect(self, since_us: int | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection whose ``events`` holds everything acknowledged so far."""
        self._refresh()
        cursor = self._database.cursor()
        try:
            parquet.create_view(cursor, self._store.paths(self._store.files(since_us)), temporary=True)
            yield cursor
        finally:
            cursor.close()

    def _refresh(self) -> None:
        with suppress(StorageError):  # on a full disk what is in the table can still be asked
            self.flush()

    @contextmanager
    def locked(self, memory_bytes: int) -> Iterator[duckdb.DuckDBPyConnection]:
        """Like :meth:`connect`, on a DuckDB of its own that is closed to everything else: for SQL that
        somebody wrote.
        """
        self._refresh()
        with self._store.connect() as connection:
            lock(connection, [str(self._store.events.resolve())], memory_bytes, threads=os.cpu_count() or 1)
            yield connection

    def query(self, sql: str, rows: int) -> Result:
        """One guarded SELECT."""
        guard(sql)
        limits = Limits(rows=rows)
        if not self._queries.acquire(timeout=limits.seconds):
            raise BusyError(f"{MOST_QUERIES} queries run already: wait until one is done, and try again")
        try:
            with self.locked(limits.memory_bytes) as connection:
                return run(connection, sql, limits)
        finally:
            self._queries.release()

    # Batches that want an answer

    def ingest(
        self,
        data: bytes,
        *,
        source: str,
        service: str | None,
        environment: str | None,
        key: str | None,
        detail: bool = False,
    ) -> dict[str, Any]:
        """Takes NDJSON, makes it durable and says what became of it: how many lines were ``received`` and
        ``stored``, how many were ``duplicates``, which were ``rejected`` and why; in ``detail`` also the
        stored ``events`` by name, ``logs`` and ``blank`` lines.

        With the ``key`` of an earlier batch nothing is taken and the earlier answer is given again. Raises
        StorageError when the disk refuses, TocsinError when there are too many lines.
        """
        if data.count(b"\n") > MOST_LINES:
            raise TocsinError(f"the batch has more than {MOST_LINES} lines: send smaller ones")
        lines = Lines(source, data, None, service, environment)
        if key is None:
            return self._ingest(lines, detail)
        with self._answered:
            self._answered.wait_for(lambda: key not in self._in_flight)
            known = self._answer(key)
            if known is not None:
                return known
            self._in_flight.add(key)
        try:
            answer = self._ingest(replace(lines, key=key), detail)
            with self._appending:  # a flush takes them away
                self._answers[key] = answer
            return answer
        finally:
            with self._answered:
                self._in_flight.discard(key)
                self._answered.notify_all()

    def _answer(self, key: str) -> dict[str, Any] | None:
        pending = self._answers.get(key) or self._sealing_answers.get(key)
        return pending or self._store.manifest.batch_answer(key)

    def _ingest(self, lines: Lines, detail: bool) -> dict[str, Any]:
        data = lines.data if lines.data.endswith(b"\n") or not lines.data else lines.data + b"\n"
        now = self._clock()
        context = Context(received_at=now, pseudonym=lambda _t, _r: "", service=lines.service)
        judged = _judge(data, context, whole=detail or b"event_id" in data)
        own = [e for e in judged.events if e.event_id is not None]
        ids = [(e.event_id or "", now if e.ts is None else e.ts) for e in own]
        again = self._recent().repeated(ids) if own else []
        answer: dict[str, Any] = {
            "received": judged.received,
            "stored": judged.received - len(judged.rejected) - sum(again),
            "duplicates": sum(again),
            "rejected": judged.rejected,
        }
        if detail:
            answer |= judged.detail([event for event, repeated in zip(own, again, strict=True) if repeated])
        if data:
            told = None if lines.key is None else answer
            self.append([replace(lines, data=data, answer=told)])
        if own:
            self._recent().remember(ids, now)
        return answer

    def _recent(self) -> RecentIds:
        """The ids that came lately, read from the table when they are asked for first."""
        with self._known_ids:
            if self._ids is None:
                self.flush()
                ids = RecentIds()
                with self._database.cursor() as cursor:
                    ids.load(cursor, self._store, self._clock())
                self._ids = ids
            return self._ids

    # Health

    def sources(self) -> Mapping[str, dict[str, Any]]:
        """Source -> its books and newest event time, as far as sealed."""
        newest = self._store.manifest.newest()
        return {
            source: {"books": books, "newest_ts": newest.get(source)}
            for source, books in self._store.manifest.books().items()
        }

    def free_bytes(self) -> int:
        """Free space where the data lies."""
        stat = os.statvfs(self._store.folder)
        return stat.f_bavail * stat.f_frsize
