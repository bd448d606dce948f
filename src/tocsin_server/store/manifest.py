"""The manifest: which Parquet files make the events table, what was loaded, and what was refused.

One SQLite file in the data folder (WAL, ``synchronous=FULL``). A load is one transaction: the files it wrote,
the identity of the bytes it read and its dead letters appear together or not at all. The threads of a process
share one connection, and a transaction is one thread's at a time.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tocsin_server.errors import TocsinError

FORMAT_VERSION = 2

#: So many first bytes tell soon whether a stream may be one that is loaded already.
HEAD_BYTES = 4096

#: Exact bytes of refused lines are kept this long (``privacy.md``: 7 days, for ``admin`` only).
DEAD_LETTER_US = 7 * 86_400 * 1_000_000

_SCHEMA = """
CREATE TABLE source (
    name TEXT PRIMARY KEY,
    next_position INTEGER NOT NULL,     -- where the next line of this source is counted from
    newest_ts INTEGER                   -- newest event time seen, µs; lines without a time take it
) STRICT;
CREATE TABLE content (                  -- bytes that are already loaded, whatever name they come under
    id INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    base INTEGER NOT NULL,              -- its first byte is this position of the source
    length INTEGER NOT NULL,            -- bytes from the beginning of the file or stream; 0: being loaded
    head BLOB NOT NULL,                 -- SHA-256 of its first bytes (at most HEAD_BYTES)
    sha256 BLOB NOT NULL,               -- of those bytes
    loaded_at INTEGER NOT NULL,
    tail INTEGER NOT NULL DEFAULT 0,    -- bytes of a last line that had no newline yet, else 0
    books TEXT NOT NULL                 -- what the load counted, as JSON
) STRICT;
CREATE INDEX content_by_length ON content (length);
CREATE TABLE file (                     -- one sealed Parquet file below events/
    name TEXT PRIMARY KEY,
    content INTEGER NOT NULL,
    is_tail INTEGER NOT NULL,           -- holds only a last line without newline, until that is completed
    rows INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    min_ts INTEGER NOT NULL,
    max_ts INTEGER NOT NULL,
    own_ids INTEGER NOT NULL,           -- rows whose line carries an event_id of its own
    received_at INTEGER NOT NULL DEFAULT 0 -- when the newest of its lines was received, µs
) STRICT;
CREATE TABLE dead_letter (
    id INTEGER PRIMARY KEY,
    content INTEGER NOT NULL,
    source TEXT NOT NULL,
    position INTEGER NOT NULL,
    reason TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    line BLOB NOT NULL
) STRICT;
CREATE TABLE sealed_segment (name TEXT PRIMARY KEY) STRICT;
CREATE TABLE pseudonym_key (tenant TEXT PRIMARY KEY, key BLOB NOT NULL) STRICT;
CREATE TABLE checkpoint (               -- where a followed file is read from next
    identity TEXT PRIMARY KEY,
    body TEXT NOT NULL                  -- JSON
) STRICT;
CREATE TABLE batch_key (                -- batches that came with an Idempotency-Key, and what was answered
    key TEXT PRIMARY KEY,
    at INTEGER NOT NULL,
    answer TEXT NOT NULL
) STRICT;
CREATE INDEX batch_key_by_time ON batch_key (at);
"""

#: What brings a file of an older format to the next one.
_MIGRATIONS = {
    1: """
ALTER TABLE file ADD COLUMN received_at INTEGER NOT NULL DEFAULT 0;
CREATE TABLE checkpoint (identity TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT;
CREATE TABLE batch_key (key TEXT PRIMARY KEY, at INTEGER NOT NULL, answer TEXT NOT NULL) STRICT;
CREATE INDEX batch_key_by_time ON batch_key (at);
"""
}


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes that are loaded: ``length`` bytes from the start of a file or stream, with their SHA-256."""

    id: int
    source: str
    base: int
    length: int
    head: bytes
    sha256: bytes
    tail: int


@dataclass(frozen=True, slots=True)
class SealedFile:
    """One Parquet file below ``events/``; times in µs since the epoch, UTC."""

    name: str
    rows: int
    bytes: int
    min_ts: int
    max_ts: int
    own_ids: int
    is_tail: bool = False
    received_at: int = 0


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A line that could not be understood, with its exact bytes."""

    source: str
    position: int
    reason: str
    received_at: int
    line: bytes


class Manifest:
    """Opens (and on first use creates) the manifest of a data folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        new = not path.exists()
        if new:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
        self._lock = threading.RLock()
        try:
            version = self._open()
        except sqlite3.DatabaseError as error:
            self.close()
            raise TocsinError(
                f"{path} cannot be read ({error}): move the data folder away and load the files again"
            ) from None
        if version > FORMAT_VERSION:
            self.close()
            raise TocsinError(
                f"{path} has format {version}, this Tocsin reads up to {FORMAT_VERSION}: install a newer one"
            )
        if version < FORMAT_VERSION:
            self._migrate()

    def _open(self) -> int:
        """Sets the journal up; answers the format version of the file, 0 if it is empty."""
        version = int(self._db.execute("PRAGMA user_version").fetchone()[0])
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        return version

    def _migrate(self) -> None:
        """Creates the tables of an empty file, or adds what an older format lacks; one transaction."""
        with self.transaction():
            version = int(self._db.execute("PRAGMA user_version").fetchone()[0])  # another process was faster
            scripts = [_MIGRATIONS[n] for n in range(version, FORMAT_VERSION)] if version else [_SCHEMA]
            for statement in (one for script in scripts for one in script.strip().split(";\n")):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version={FORMAT_VERSION}")

    def close(self) -> None:
        """Closes the file; safe to call twice."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing: what is written inside is durable when the block ends, or never happened.

        Inside another one of the same thread it is a part of that one; other threads wait.
        """
        with self._lock:
            if self._db.in_transaction:
                yield
                return
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # SQLite itself rolls back when the disk is full or fails
                    self._db.execute("ROLLBACK")
                raise

    def _rows(self, sql: str, *parameters: object) -> list[Any]:
        """The answer to a question, asked outside of any other thread's transaction."""
        with self._lock:
            return self._db.execute(sql, parameters).fetchall()

    # What is loaded

    def contents(self, up_to: int = 1 << 62, source: str | None = None) -> list[Content]:
        """Loaded contents of at most ``up_to`` bytes (of one source, if given), shortest first."""
        rows = self._rows(
            "SELECT id, source, base, length, head, sha256, tail FROM content"
            " WHERE length > 0 AND length <= ? AND (? IS NULL OR source = ?) ORDER BY length",
            up_to,
            source,
            source,
        )
        return [Content(*row) for row in rows]

    def begin_content(self, source: str, base: int, at_us: int) -> int:
        """Records that something is being loaded; answers the content's id."""
        cursor = self._db.execute(
            "INSERT INTO content (source, base, length, head, sha256, loaded_at, tail, books)"
            " VALUES (?, ?, 0, x'', x'', ?, 0, '{}')",
            (source, base, at_us),
        )
        return int(cursor.lastrowid or 0)

    def finish_content(self, content: Content, books: dict[str, Any]) -> None:
        """Fixes what the load read (by its id) and counted."""
        self._db.execute(
            "UPDATE content SET length = ?, head = ?, sha256 = ?, tail = ?, books = ? WHERE id = ?",
            (content.length, content.head, content.sha256, content.tail, json.dumps(books), content.id),
        )

    def source(self, name: str) -> tuple[int, int | None]:
        """(next position, newest event time in µs or None) of a source."""
        rows = self._rows("SELECT next_position, newest_ts FROM source WHERE name = ?", name)
        return (int(rows[0][0]), rows[0][1]) if rows else (0, None)

    def set_source(self, name: str, next_position: int, newest_ts: int | None) -> None:
        """Moves a source forward."""
        self._db.execute("INSERT OR REPLACE INTO source VALUES (?, ?, ?)", (name, next_position, newest_ts))

    # Files

    def files(self) -> list[SealedFile]:
        """Every file of the events table, oldest events first."""
        rows = self._rows(
            "SELECT name, rows, bytes, min_ts, max_ts, own_ids, is_tail, received_at FROM file"
            " ORDER BY min_ts, name"
        )
        return [SealedFile(*row) for row in rows]

    def add_file(self, content: int, file: SealedFile) -> None:
        """Makes a durable Parquet file part of the events table."""
        self._db.execute(
            "INSERT INTO file (name, content, is_tail, rows, bytes, min_ts, max_ts, own_ids, received_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                file.name,
                content,
                file.is_tail,
                file.rows,
                file.bytes,
                file.min_ts,
                file.max_ts,
                file.own_ids,
                file.received_at,
            ),
        )

    def remove_file(self, name: str) -> None:
        """Takes a file out of the events table."""
        self._db.execute("DELETE FROM file WHERE name = ?", (name,))

    def remove_tail(self, content: int) -> None:
        """Withdraws a content's last line that had no newline: an event, a dead letter or neither."""
        self._db.execute("DELETE FROM file WHERE content = ? AND is_tail", (content,))
        self._db.execute(
            "DELETE FROM dead_letter WHERE content = ?1"
            " AND position >= (SELECT base + length - tail FROM content WHERE id = ?1)",
            (content,),
        )

    # Refused lines

    def add_dead_letters(self, content: int, letters: list[DeadLetter]) -> None:
        """Keeps refused lines with their exact bytes."""
        self._db.executemany(
            "INSERT INTO dead_letter (content, source, position, reason, received_at, line)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            [(content, d.source, d.position, d.reason, d.received_at, d.line) for d in letters],
        )

    def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        """The newest refused lines."""
        rows = self._rows(
            "SELECT source, position, reason, received_at, line FROM dead_letter ORDER BY id DESC LIMIT ?",
            limit,
        )
        return [DeadLetter(*row) for row in rows]

    def expire_dead_letters(self, now_us: int) -> int:
        """Deletes refused lines older than seven days; answers how many."""
        return self._db.execute(
            "DELETE FROM dead_letter WHERE received_at < ?", (now_us - DEAD_LETTER_US,)
        ).rowcount

    # Spool and keys

    def add_sealed_segment(self, name: str) -> None:
        """Records, in the load's own transaction, that a spool segment's events are in Parquet."""
        self._db.execute("INSERT OR IGNORE INTO sealed_segment VALUES (?)", (name,))

    def sealed_segments(self) -> set[str]:
        """Segments that are sealed but may not be deleted yet."""
        return {row[0] for row in self._rows("SELECT name FROM sealed_segment")}

    def forget_segment(self, name: str) -> None:
        """Drops the record of a segment whose file is deleted."""
        self._db.execute("DELETE FROM sealed_segment WHERE name = ?", (name,))

    def pseudonym_key(self, tenant: str | None) -> bytes:
        """The tenant's random 32-byte key, made on first use; deleting it erases linkability
        (``privacy.md``).
        """
        name = tenant or ""
        with self.transaction():
            row = self._db.execute("SELECT key FROM pseudonym_key WHERE tenant = ?", (name,)).fetchone()
            if row:
                return bytes(row[0])
            key = secrets.token_bytes(32)
            self._db.execute("INSERT INTO pseudonym_key VALUES (?, ?)", (name, key))
            return key

    # Live sources

    def live_content(self, source: str, at_us: int) -> int:
        """The one content of a live source, whose bytes have no identity; made on first use."""
        row = self._db.execute(
            "SELECT id FROM content WHERE source = ? AND length = 0 AND sha256 = x'00'", (source,)
        ).fetchone()
        if row:
            return int(row[0])
        content = self.begin_content(source, 0, at_us)
        self._db.execute("UPDATE content SET sha256 = x'00' WHERE id = ?", (content,))
        return content

    def add_books(self, content: int, books: dict[str, Any]) -> None:
        """Adds what a part of a live source counted to its books."""
        row = self._db.execute("SELECT books FROM content WHERE id = ?", (content,)).fetchone()
        total = _summed(json.loads(row[0]), books)
        self._db.execute("UPDATE content SET books = ? WHERE id = ?", (json.dumps(total), content))

    def books(self) -> dict[str, dict[str, Any]]:
        """Source -> what all its loads counted, as ``tocsin ingest --json`` shows it."""
        total: dict[str, dict[str, Any]] = {}
        for source, books in self._rows("SELECT source, books FROM content ORDER BY id"):
            total[source] = _summed(total.get(source, {}), json.loads(books))
        return total

    def newest(self) -> dict[str, int | None]:
        """Source -> its newest event time, µs."""
        return dict(self._rows("SELECT name, newest_ts FROM source"))

    def checkpoints(self) -> dict[str, dict[str, Any]]:
        """Where followed files are read from next, by identity."""
        return {row[0]: json.loads(row[1]) for row in self._rows("SELECT identity, body FROM checkpoint")}

    def set_checkpoint(self, identity: str, body: dict[str, Any]) -> None:
        """Moves a followed file forward."""
        self._db.execute("INSERT OR REPLACE INTO checkpoint VALUES (?, ?)", (identity, json.dumps(body)))

    def batch_answer(self, key: str) -> dict[str, Any] | None:
        """What was answered to the batch that came with this Idempotency-Key."""
        rows = self._rows("SELECT answer FROM batch_key WHERE key = ?", key)
        return json.loads(rows[0][0]) if rows else None

    def set_batch_answer(self, key: str, at_us: int, answer: dict[str, Any]) -> None:
        """Remembers a batch by its Idempotency-Key."""
        self._db.execute(
            "INSERT OR REPLACE INTO batch_key VALUES (?, ?, ?)", (key, at_us, json.dumps(answer))
        )

    def expire_batch_keys(self, before_us: int) -> None:
        """Forgets batches that came before a time."""
        self._db.execute("DELETE FROM batch_key WHERE at < ?", (before_us,))


def _summed(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Two books added up, member by member."""
    total = dict(one)
    for name, value in other.items():
        if isinstance(value, dict):
            total[name] = _summed(total.get(name, {}), value)
        else:
            total[name] = total.get(name, 0) + value
    return total
