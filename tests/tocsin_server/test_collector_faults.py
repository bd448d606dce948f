"""The collector when the disk fails between any two steps: nothing acknowledged is lost, nothing refused is
stored, nothing is stored twice (rows D6, D7, D13, I6, L4).
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.tocsin_server.loading import NOW, log
from tocsin_server import collector as module
from tocsin_server.collector import Collector, Lines, StorageError
from tocsin_server.errors import TocsinError
from tocsin_server.spool import segments
from tocsin_server.sql import Limits
from tocsin_server.store import Store, duckdb_connection, parquet

DAY_US = 86_400_000_000
FULL = OSError(28, "No space left on device")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.create(tmp_path / "data")
    with store.writing():
        yield store
    store.close()


@pytest.fixture
def collector(store: Store) -> Iterator[Collector]:
    one = Collector(store, lambda: NOW)
    yield one
    one.close()


def post(collector: Collector, data: bytes, key: str | None = None) -> dict[str, Any]:
    return collector.ingest(data, source="http", service=None, environment=None, key=key)


def messages(collector: Collector) -> list[str]:
    with collector.connect() as connection:
        return [
            row[0] for row in connection.execute("SELECT message FROM events ORDER BY message").fetchall()
        ]


def failing(error: Exception, times: int, real: Callable[..., Any]) -> Callable[..., Any]:
    """``real``, but the first ``times`` calls raise."""
    left = [times]

    def call(*arguments: Any, **named: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise error
        return real(*arguments, **named)

    return call


def test_D7_what_was_refused_is_not_stored_when_it_comes_again(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector.append([Lines("app", log("before"))])
    monkeypatch.setattr("tocsin_server.spool.os.fdatasync", failing(OSError(5, "EIO"), 1, os.fdatasync))
    with pytest.raises(StorageError):
        collector.append([Lines("app", log("again"))])
    collector.append([Lines("app", log("again"))])
    assert messages(collector) == ["again", "before"]


def test_I6_a_batch_that_was_refused_is_taken_once_when_it_comes_again(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tocsin_server.spool.os.fdatasync", failing(OSError(5, "EIO"), 1, os.fdatasync))
    with pytest.raises(StorageError):
        post(collector, log("a"), "k")
    assert post(collector, log("a"), "k")["stored"] == 1
    assert messages(collector) == ["a"]


def test_D6_a_write_that_fails_takes_its_neighbours_with_it_whole(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sender waits for the disk when another one's write fails: both are refused, both send again."""
    written, failed = threading.Event(), threading.Event()
    fdatasync, write = os.fdatasync, os.write

    def slow(fd: int) -> None:
        written.set()
        assert failed.wait(20)
        fdatasync(fd)

    def full(fd: int, data: Any) -> int:
        if b"second" in bytes(data):
            raise FULL
        return write(fd, data)

    refused: list[str] = []

    def send(name: str) -> None:
        try:
            collector.append([Lines("app", log(name))])
        except StorageError:
            refused.append(name)

    with monkeypatch.context() as patch:
        patch.setattr("tocsin_server.spool.os.fdatasync", slow)
        patch.setattr("tocsin_server.spool.os.write", full)
        first = threading.Thread(target=send, args=("first",))
        first.start()
        assert written.wait(20)
        second = threading.Thread(target=send, args=("second",))
        second.start()
        failed.set()
        first.join()
        second.join()
    for name in refused:
        collector.append([Lines("app", log(name))])
    assert "second" in refused
    assert messages(collector) == ["first", "second"]


def test_D6_what_is_durable_is_not_refused_because_it_cannot_be_sealed(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEGMENT_BYTES", 1)
    with monkeypatch.context() as patch:
        patch.setattr(module, "seal", failing(FULL, 9, module.seal))
        assert post(collector, log("a"), "k")["stored"] == 1
        assert collector.error
    assert post(collector, log("a"), "k")["stored"] == 1
    assert messages(collector) == ["a"]


@pytest.mark.parametrize("error", [FULL, sqlite3.OperationalError("database or disk is full")])
def test_D6_a_sealed_segment_that_cannot_be_deleted_is_not_sealed_again(
    collector: Collector, store: Store, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    collector.append([Lines("app", log("a"))])
    forget = failing(error, 1, store.manifest.forget_segment)
    with monkeypatch.context() as patch:
        patch.setattr(store.manifest, "forget_segment", forget)
        with pytest.raises(StorageError):
            collector.flush()
    collector.append([Lines("app", log("b"))])
    collector.flush()
    assert messages(collector) == ["a", "b"]
    assert not segments(store.spool)
    assert not store.manifest.sealed_segments()


def test_D6_a_sealed_segment_that_cannot_be_unlinked_is_not_sealed_again(
    collector: Collector, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector.append([Lines("app", log("a"))])
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.unlink", failing(OSError(30, "Read-only file system"), 1, Path.unlink))
        with pytest.raises(StorageError):
            collector.flush()
    collector.flush()
    assert messages(collector) == ["a"]
    assert not segments(store.spool)


def test_D13_who_comes_after_the_end_is_refused_and_leaves_the_spool_alone(store: Store) -> None:
    collector = Collector(store, lambda: NOW)
    collector.append([Lines("app", log("a"))])
    collector.close()
    with pytest.raises(StorageError, match="stops"):
        collector.append([Lines("app", log("late"))])
    collector.flush()
    assert not list(store.quarantine.iterdir())
    second = Collector(store, lambda: NOW)
    assert messages(second) == ["a"]
    second.close()


def test_L4_what_retention_drops_is_deleted_also_when_a_merge_fails(
    collector: Collector, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        collector.append([Lines("app", log(name))])
        collector.flush()
    monkeypatch.setattr(module, "mergeable", lambda _files: [[]])
    monkeypatch.setattr(module, "merge", failing(duckdb.IOException("No space left"), 9, lambda *_: []))
    for now in (NOW, NOW + module.RETIRED_US):
        with pytest.raises(duckdb.IOException):
            collector.maintain(now, 30 * DAY_US, 0)
    assert not list(store.events.rglob("*.parquet"))


def test_late_history_with_repeated_events_is_kept_from_its_receipt_on(
    collector: Collector, store: Store
) -> None:
    old = "2026-01-01T00:00:00Z"
    collector.append([Lines("app", log("once", old, event_id="0123456789abcdef") * 2)])
    collector.flush()
    collector.maintain(NOW, 30 * DAY_US, None)
    assert messages(collector) == ["once"]
    assert [file.received_at for file in store.manifest.files()] == [NOW]


def test_D6_a_file_that_cannot_be_written_whole_is_not_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "half.parquet"
    with duckdb_connection(1) as connection, pytest.raises(duckdb.Error):
        parquet.write(connection, "SELECT error('the disk is full')", path)
    assert not path.exists()


def test_I1_a_batch_of_too_many_lines_is_refused_whole(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_LINES", 2)
    assert post(collector, log("a") * 2)["stored"] == 2
    with pytest.raises(TocsinError, match="more than 2 lines: send smaller ones"):
        post(collector, b"x\n" * 3)
    assert messages(collector) == ["a", "a"]


def test_I17_queries_above_the_limit_wait_and_are_told(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "Limits", lambda rows: Limits(seconds=0.01, rows=rows))
    for _ in range(module.MOST_QUERIES):
        assert collector._queries.acquire(timeout=1)
    with pytest.raises(TocsinError, match="2 queries run already: wait"):
        collector.query("SELECT 1", 1)
    for _ in range(module.MOST_QUERIES):
        collector._queries.release()
    monkeypatch.undo()
    for _ in range(module.MOST_QUERIES + 1):
        assert collector.query("SELECT 1 AS one", 1).rows == [(1,)]
