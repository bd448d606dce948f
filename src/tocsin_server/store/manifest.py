"""The manifest: which Parquet files make the events table, what was loaded, and what was refused.

One SQLite file in the data folder (WAL, ``synchronous=FULL``). A load is one transaction: the files it wrote,
the identity of the bytes it read, its dead letters and the pseudonym keys it needed appear together or not at
all.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tocsin_server.errors import TocsinError

FORMAT_VERSION = 1

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
    own_ids INTEGER NOT NULL            -- rows whose line carries an event_id of its own
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
"""


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
        if version == 0:
            self._create()

    def _open(self) -> int:
        """Sets the journal up; answers the format version of the file, 0 if it is empty."""
        version = int(self._db.execute("PRAGMA user_version").fetchone()[0])
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        return version

    def _create(self) -> None:
        with self.transaction():
            if self._db.execute("PRAGMA user_version").fetchone()[0] == 0:
                for statement in _SCHEMA.split(";\n"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version={FORMAT_VERSION}")

    def close(self) -> None:
        """Closes the file; safe to call twice."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing: what is written inside is durable when the block ends, or never happened."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # SQLite itself rolls back when the disk is full or fails
                self._db.execute("ROLLBACK")
            raise

    # What is loaded

    def contents(self, up_to: int = 1 << 62, source: str | None = None) -> list[Content]:
        """Loaded contents of at most ``up_to`` bytes (of one source, if given), shortest first."""
        rows = self._db.execute(
            "SELECT id, source, base, length, head, sha256, tail FROM content"
            " WHERE length > 0 AND length <= ? AND (? IS NULL OR source = ?) ORDER BY length",
            (up_to, source, source),
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
        row = self._db.execute(
            "SELECT next_position, newest_ts FROM source WHERE name = ?", (name,)
        ).fetchone()
        return (int(row[0]), row[1]) if row else (0, None)

    def set_source(self, name: str, next_position: int, newest_ts: int | None) -> None:
        """Moves a source forward."""
        self._db.execute("INSERT OR REPLACE INTO source VALUES (?, ?, ?)", (name, next_position, newest_ts))

    # Files

    def files(self) -> list[SealedFile]:
        """Every file of the events table, oldest events first."""
        rows = self._db.execute(
            "SELECT name, rows, bytes, min_ts, max_ts, own_ids, is_tail FROM file ORDER BY min_ts, name"
        )
        return [SealedFile(*row) for row in rows]

    def add_file(self, content: int, file: SealedFile) -> None:
        """Makes a durable Parquet file part of the events table."""
        self._db.execute(
            "INSERT INTO file (name, content, is_tail, rows, bytes, min_ts, max_ts, own_ids)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                file.name,
                content,
                file.is_tail,
                file.rows,
                file.bytes,
                file.min_ts,
                file.max_ts,
                file.own_ids,
            ),
        )

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
        rows = self._db.execute(
            "SELECT source, position, reason, received_at, line FROM dead_letter ORDER BY id DESC LIMIT ?",
            (limit,),
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
        return {row[0] for row in self._db.execute("SELECT name FROM sealed_segment")}

    def forget_segment(self, name: str) -> None:
        """Drops the record of a segment whose file is deleted."""
        self._db.execute("DELETE FROM sealed_segment WHERE name = ?", (name,))

    def pseudonym_key(self, tenant: str | None) -> bytes:
        """The tenant's random 32-byte key, made on first use; deleting it erases linkability
        (``privacy.md``).
        """
        name = tenant or ""
        row = self._db.execute("SELECT key FROM pseudonym_key WHERE tenant = ?", (name,)).fetchone()
        if row:
            return bytes(row[0])
        key = secrets.token_bytes(32)
        self._db.execute("INSERT INTO pseudonym_key VALUES (?, ?)", (name, key))
        return key
