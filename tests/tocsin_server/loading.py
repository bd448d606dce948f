"""What the tests of loading share: lines, loads at a fixed time, and the books against the store."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tocsin_server.clock import Clock, frozen_clock
from tocsin_server.load import Books, Options
from tocsin_server.sources import load_file, load_stream
from tocsin_server.store import Store

NOW = 1_795_420_800_000_000  # 2026-11-23T08:00:00Z
HOUR = 3_600_000_000
CLOCK = frozen_clock(NOW)


def log(message: str, at: str | None = "2026-11-23T07:55:12.345Z", **fields: object) -> bytes:
    """A canonical log line."""
    time = {} if at is None else {"timestamp": at}
    return _line(time | {"level": "INFO", "message": message, "service": "core"} | fields)


def request(status: int = 200, at: str = "2026-11-23T07:55:12.345Z", **fields: object) -> bytes:
    """A canonical request event."""
    tags = {"method": "GET", "path": "/api/v1/courses", "status": status, "duration_ms": 12.5}
    return _line({"metric": "api.request", "tags": tags, "timestamp": at, "service": "core"} | fields)


def _line(fields: dict[str, object]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def load(store: Store, path: Path, clock: Clock = CLOCK, **options: Any) -> Books:
    """One ``tocsin ingest PATH``."""
    with store.writing():
        return load_file(store, path, clock, Options(**options))


def stream(store: Store, *blocks: bytes, **options: Any) -> Books:
    """One ``tocsin ingest -`` of blocks that are written without a pause."""
    with store.writing(), pipe(blocks) as fd:
        return load_stream(store, fd, CLOCK, Options(**options))


@contextmanager
def pipe(blocks: Sequence[bytes]) -> Iterator[int]:
    """The end of a pipe from which the blocks can be read."""
    reader, writer = os.pipe()

    def write() -> None:
        with os.fdopen(writer, "wb", buffering=0) as file:
            for block in blocks:
                file.write(block)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield reader
    finally:
        os.close(reader)
        thread.join()


def rows(store: Store, columns: str = "*", where: str = "true") -> list[tuple[Any, ...]]:
    """Events in the order of their ids."""
    query = f"SELECT {columns} FROM events WHERE {where} ORDER BY event_id, ts"
    with store.connect(threads=1) as connection:
        return connection.execute(query).fetchall()


def messages(store: Store) -> list[str]:
    """The texts of the log lines, in the order of their ids."""
    return [row[0] for row in rows(store, "message", "name = 'log'")]


def ids(store: Store) -> list[str]:
    """Every event id, each of which must be there once."""
    found = [row[0] for row in rows(store, "event_id")]
    assert len(found) == len(set(found)), f"event ids twice: {Counter(found).most_common(3)}"
    return found


def assert_books_balance(store: Store, *loads: Books) -> None:
    """D18: what the loads counted is what is stored, by name, and what is a dead letter."""
    total = Books()
    for books in loads:
        assert books.lines == (
            books.events.total() + books.logs + books.rejected + books.duplicates + books.blank
        )
        total.add(books)
    stored = Counter(dict(rows_by_name(store)))
    logs = stored.pop("log", 0)
    assert (stored, logs) == (+total.events, total.logs)
    assert len(store.manifest.dead_letters(limit=1_000_000)) == total.rejected
    assert len(ids(store)) == stored.total() + logs
    assert_no_strangers(store)


def rows_by_name(store: Store) -> list[tuple[str, int]]:
    with store.connect(threads=1) as connection:
        return connection.execute("SELECT name, count(*) FROM events GROUP BY name").fetchall()


def assert_no_strangers(store: Store) -> None:
    """Every file below ``events/`` is named by the manifest, and the other way round."""
    present = {path for path in store.events.rglob("*") if path.is_file()}
    assert present == set(store.paths())
