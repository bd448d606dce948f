"""Chunks of lines become sealed Parquet files, on every core, published by one manifest transaction.

Each chunk goes through three steps on its own thread and its own DuckDB: the vectorised path takes the
ordinary lines, the reference takes the rest, and both are written to one Parquet file a day. Only one thing
passes from chunk to chunk: the newest event time so far, which lines without a time take. The files are
nobody's until they are published, and that is quick: a long load holds up no other.
"""

from __future__ import annotations

import os
import pickle
import secrets
import tempfile
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import duckdb
import numpy as np
import numpy.typing as npt

from tocsin_server import vectorised
from tocsin_server.chunks import KEPT_BYTES, Chunk
from tocsin_server.columns import Event
from tocsin_server.dialects import Context, Parsed, Rejected, finish, parse_line, strip_bom
from tocsin_server.duplicates import drop_duplicates
from tocsin_server.privacy import Pseudonyms
from tocsin_server.spool import sync_directory
from tocsin_server.store import Store, day_of, duckdb_connection, parquet
from tocsin_server.store.manifest import DeadLetter, SealedFile
from tocsin_server.store.rows import ROWS_SELECT, arrow_rows

_DAY_US = 86_400_000_000
_SKEW_LIMIT_US = 60_000_000

#: A shorter chunk goes to the reference: planning the vectorised queries would take longer.
_FEW_LINES = 2000


@dataclass(slots=True)
class Books:
    """What became of the lines: ``lines = events + logs + rejected + duplicates + blank``, always."""

    events: Counter[str] = field(default_factory=Counter)
    logs: int = 0
    rejected: int = 0
    duplicates: int = 0
    blank: int = 0
    bytes: int = 0
    dialects: Counter[str] = field(default_factory=Counter)

    @property
    def lines(self) -> int:
        """Lines received."""
        return self.events.total() + self.logs + self.rejected + self.duplicates + self.blank

    def count_names(self, names: dict[str, int]) -> None:
        """Adds stored (or, negative, withdrawn) rows by event name."""
        for name, count in names.items():
            if name == "log":
                self.logs += count
            else:
                self.events[name] += count

    def add(self, other: Books) -> None:
        """Adds another load's books."""
        self.events += other.events
        self.dialects += other.dialects
        self.logs += other.logs
        self.rejected += other.rejected
        self.duplicates += other.duplicates
        self.blank += other.blank
        self.bytes += other.bytes

    @classmethod
    def from_json(cls, books: dict[str, Any]) -> Books:
        """What :meth:`as_json` wrote."""
        return cls(
            Counter(books["events"]),
            books["logs"],
            books["rejected"],
            books["duplicates"],
            books["blank"],
            books["bytes"],
            Counter(books["dialects"]),
        )

    @classmethod
    def from_answer(cls, answer: dict[str, Any], length: int) -> Books:
        """What a server answered, in detail, to a batch of ``length`` bytes."""
        events, rejected = Counter(answer["events"]), len(answer["rejected"])
        return cls(events, answer["logs"], rejected, answer["duplicates"], answer["blank"], length)

    def as_json(self) -> dict[str, Any]:
        """The shape of ``tocsin ingest --json``, but the seconds."""
        return {
            "lines": self.lines,
            "events": dict(sorted(self.events.items())),
            "logs": self.logs,
            "rejected": self.rejected,
            "duplicates": self.duplicates,
            "blank": self.blank,
            "bytes": self.bytes,
            "dialects": dict(sorted(self.dialects.items())),
        }


@dataclass(frozen=True, slots=True)
class Options:
    """What the caller says about the lines.

    ``service`` is used where a line names none, ``source`` in place of the path. ``replay`` takes times as
    they are, without correction for clock skew. ``progress`` is told the bytes of each chunk that is durable.
    """

    service: str | None = None
    environment: str | None = None
    source: str | None = None
    replay: bool = False
    threads: int = field(default_factory=lambda: min(os.cpu_count() or 1, 8))
    progress: Callable[[int], None] = lambda _bytes: None


class Workers:
    """Threads that parse chunks, each with a DuckDB of its own; whoever loads often keeps them."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads, "load")
        self._local = threading.local()
        self._connections: list[duckdb.DuckDBPyConnection] = []

    def __enter__(self) -> Workers:
        """Itself."""
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def submit(self, work: Callable[..., _Sealed], *arguments: object) -> Future[_Sealed]:
        """Does this on a thread."""
        return self._pool.submit(work, *arguments)

    def connection(self) -> duckdb.DuckDBPyConnection:
        """The DuckDB of the thread that asks."""
        if not hasattr(self._local, "connection"):
            self._local.connection = duckdb_connection(threads=1)
            self._connections.append(self._local.connection)
        connection: duckdb.DuckDBPyConnection = self._local.connection
        return connection

    def close(self) -> None:
        """Waits for the threads and closes what they opened."""
        self._pool.shutdown()
        for connection in self._connections:
            connection.close()
        self._connections.clear()


@dataclass(frozen=True, slots=True)
class Origin:
    """Where lines come from: position ``p`` of what is read is position ``base + p`` of the source; times in
    µs. ``is_history``: lines before the first time take that time, not the time of receipt.
    """

    source: str
    base: int
    newest_ts: int | None
    received_at: int
    is_history: bool = False


@dataclass(slots=True)
class _Sealed:
    """One chunk, written and durable, but nobody's yet."""

    files: list[SealedFile]
    letters: list[DeadLetter]
    books: Books


@dataclass(slots=True)
class _Referred:
    """What the reference made of the lines that are not ordinary."""

    events: list[Event] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    dialects: Counter[str] = field(default_factory=Counter)
    blank: int = 0


class Loader:
    """Loads chunks of one source into a store; use inside ``store.writing()``.

    :meth:`run` parses and writes, :meth:`publish` makes it part of the events table.
    """

    def __init__(self, store: Store, options: Options, origin: Origin, workers: Workers) -> None:
        self.books = Books()
        self.newest_ts = origin.newest_ts
        self._store = store
        self._options = options
        self._origin = origin
        self._workers = workers
        self._context = _context(store, options, origin.received_at)
        self._files: list[SealedFile] = []
        self._letters = _Letters(store.spool)

    def run(self, chunks: Iterable[Chunk]) -> None:
        """Writes every chunk's events to files that nobody sees yet."""
        waiting: deque[Future[_Sealed]] = deque()
        newest: Future[int | None] = Future()
        newest.set_result(self._origin.newest_ts)
        try:
            for chunk in chunks:
                following: Future[int | None] = Future()
                waiting.append(self._workers.submit(self._seal, chunk, newest, following))
                newest = following
                if len(waiting) > self._workers.threads:
                    self._account(waiting.popleft().result())
            while waiting:
                self._account(waiting.popleft().result())
        finally:
            for future in waiting:  # a chunk failed: those after it fail too, and nobody else shall see them
                future.cancel()
        self.newest_ts = newest.result()

    def _account(self, sealed: _Sealed) -> None:
        self._files += sealed.files
        self.books.add(sealed.books)
        self._letters.add(sealed.letters)
        self._options.progress(sealed.books.bytes)

    def publish(self, content: int) -> None:
        """Makes what was written part of the events table, less the events that are stored already; inside a
        manifest transaction.
        """
        self._publish()
        for file in self._files:
            self._store.manifest.add_file(content, file)
        for letters in self._letters:
            self._store.manifest.add_dead_letters(content, letters)
        self._letters.close()

    def _publish(self) -> None:
        if any(file.own_ids for file in self._files):
            self._files, names = drop_duplicates(self._store, self._files)
            self.books.count_names({name: -count for name, count in names.items()})
            self.books.duplicates += sum(names.values())
        for folder in {(self._store.events / file.name).parent for file in self._files}:
            sync_directory(folder)

    # One chunk, on a thread of the pool

    def _seal(self, chunk: Chunk, newest: Future[int | None], following: Future[int | None]) -> _Sealed:
        try:
            connection = self._workers.connection()
            data = chunk.data if chunk.data.endswith(b"\n") else chunk.data + b"\n"
            lines = vectorised.Lines.split(data)
            base = self._origin.base + chunk.position
            few = len(lines) < _FEW_LINES
            ordinary = (
                vectorised.nothing(lines) if few else vectorised.parse(connection, lines, self._context, base)
            )
            referred = self._refer(lines, ordinary, base)
            following.set_result(_set_times(ordinary, referred, newest.result(), self._origin.is_history))
        except BaseException as error:
            if not following.done():
                following.set_exception(error)
            raise
        return self._write(connection, chunk, lines.starts + base, ordinary, referred)

    def _refer(self, lines: vectorised.Lines, ordinary: vectorised.Ordinary, base: int) -> _Referred:
        referred = _Referred(dialects=Counter(ordinary.dialects))
        for index in np.flatnonzero(~ordinary.is_ordinary).tolist():
            raw, position = lines[index][:KEPT_BYTES], base + int(lines.starts[index])
            parsed = parse_line(strip_bom(raw) if position == self._origin.base else raw, self._context)
            if isinstance(parsed, Parsed):
                referred.events.append(parsed.event)
                referred.lines.append(index)
                referred.dialects[parsed.dialect] += 1
            elif isinstance(parsed, Rejected):
                letter = DeadLetter(
                    self._origin.source, position, parsed.reason, self._context.received_at, raw
                )
                referred.letters.append(letter)
            else:
                referred.blank += 1
        return referred

    def _write(
        self,
        connection: duckdb.DuckDBPyConnection,
        chunk: Chunk,
        positions: npt.NDArray[np.int64],
        ordinary: vectorised.Ordinary,
        referred: _Referred,
    ) -> _Sealed:
        books = Books(rejected=len(referred.letters), blank=referred.blank, bytes=chunk.length)
        books.dialects = referred.dialects
        sealed = _Sealed([], referred.letters, books)
        selects = [*ordinary.selects]
        if referred.events:
            connection.register("referred", arrow_rows(referred.events, positions[referred.lines].tolist()))
            selects.append(f"SELECT {ROWS_SELECT} FROM referred")
        days = _days(ordinary, referred)
        batch = " UNION ALL BY NAME ".join(selects)
        if len(days) > 1:
            connection.execute(f"CREATE OR REPLACE TEMP TABLE batch AS {batch}")
            batch = "SELECT * FROM batch"
        sealed.files = [self._write_day(connection, batch, day, len(days), chunk, books) for day in days]
        if referred.events:
            connection.unregister("referred")
        return sealed

    def _write_day(
        self,
        connection: duckdb.DuckDBPyConnection,
        batch: str,
        day: int,
        days: int,
        chunk: Chunk,
        books: Books,
    ) -> SealedFile:
        start = day * _DAY_US
        folder = self._store.day_folder(day_of(start))
        path = folder / f"{secrets.token_hex(8)}.parquet"
        source = self._origin.source.replace("'", "''")
        same_day = f" WHERE ts >= make_timestamptz({start}) AND ts < make_timestamptz({start + _DAY_US})"
        parquet.write(
            connection,
            f"SELECT *, '{source}' AS source, make_timestamptz({self._context.received_at}) AS received_at"
            f" FROM ({batch}){same_day if days > 1 else ''}",
            path,
        )
        counted = connection.execute(
            "SELECT name, count(*), epoch_us(min(ts)), epoch_us(max(ts)), count(own_id)"
            f" FROM {parquet.scan([path])} GROUP BY name"
        ).fetchall()
        books.count_names({name: rows for name, rows, *_rest in counted})
        return SealedFile(
            name=str(path.relative_to(self._store.events)),
            rows=sum(row[1] for row in counted),
            bytes=path.stat().st_size,
            min_ts=min(row[2] for row in counted),
            max_ts=max(row[3] for row in counted),
            own_ids=sum(row[4] for row in counted),
            is_tail=chunk.is_tail,
            received_at=self._context.received_at,
        )


class _Letters:
    """Dead letters that are not published yet: on disk, for there may be as many as lines."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None

    def add(self, letters: list[DeadLetter]) -> None:
        if letters:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - closed by close()
            pickle.dump(letters, self._file)

    def __iter__(self) -> Iterator[list[DeadLetter]]:
        if self._file is None:
            return
        end = self._file.tell()
        self._file.seek(0)
        while self._file.tell() < end:
            yield pickle.load(self._file)  # noqa: S301 - written above, by this process, to an unnamed file

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _context(store: Store, options: Options, received_at: int) -> Context:
    pseudonyms = Pseudonyms(store.manifest.pseudonym_key)
    return Context(
        received_at=received_at,
        pseudonym=pseudonyms,
        network=pseudonyms.network,
        service=options.service,
        environment=options.environment,
        skew_limit_us=None if options.replay else _SKEW_LIMIT_US,
    )


def _days(ordinary: vectorised.Ordinary, referred: _Referred) -> list[int]:
    """Days since 1970-01-01 on which the chunk has events; most chunks have one."""
    days = set(np.unique(ordinary.times[ordinary.is_ordinary] // _DAY_US).tolist())
    return sorted(days | {event.ts // _DAY_US for event in referred.events if event.ts is not None})


def _set_times(
    ordinary: vectorised.Ordinary, referred: _Referred, newest: int | None, is_history: bool
) -> int | None:
    """Gives lines without a time the newest one before them in their source; answers the newest of all."""
    never = np.iinfo(np.int64).min
    times = np.where(ordinary.is_ordinary, ordinary.times, never)
    for line, event in zip(referred.lines, referred.events, strict=True):
        times[line] = never if event.ts is None else event.ts
    running = np.maximum(np.maximum.accumulate(times), never if newest is None else newest)
    known = times[times != never]
    first = int(known[0]) if is_history and len(known) else None
    for line, event in zip(referred.lines, referred.events, strict=True):
        finish(event, first if running[line] == never else int(running[line]))
    return None if running[-1] == never else int(running[-1])
