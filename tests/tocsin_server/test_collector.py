"""The collector: what is acknowledged is there, once, whatever happens (rows D1, D6, D18, I5, I6)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.tocsin_server.loading import NOW, log, request
from tocsin_server import collector as module
from tocsin_server.collector import Collector, Lines, StorageError
from tocsin_server.spool import segments
from tocsin_server.store import Store

ID = "0123456789abcdef"


class Time:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.create(tmp_path / "data")
    with store.writing():
        yield store
    store.close()


@pytest.fixture
def collector(store: Store, clock: Time) -> Iterator[Collector]:
    one = Collector(store, clock)
    yield one
    one.close()


def post(collector: Collector, data: bytes, **options: Any) -> dict[str, Any]:
    given = {"source": "http", "service": None, "environment": None, "key": None} | options
    return collector.ingest(data, **given)


def rows(collector: Collector, sql: str) -> list[tuple[Any, ...]]:
    with collector.connect() as connection:
        return connection.execute(sql).fetchall()


def test_what_is_acknowledged_is_read_at_once(collector: Collector) -> None:
    collector.append([Lines("app", log("one")), Lines("other", log("two"))])
    assert rows(collector, "SELECT source, event_id, message FROM events ORDER BY ALL") == [
        ("app", "app:000000000000000", "one"),
        ("other", "other:000000000000000", "two"),
    ]


def test_positions_go_on_over_segments_and_restarts(store: Store, clock: Time) -> None:
    first = Collector(store, clock)
    for text in ("a", "b"):
        first.append([Lines("app", log(text))])
        first.flush()
    first.close()
    second = Collector(store, clock)
    second.append([Lines("app", log("c"))])
    length = len(log("a"))
    ids = [row[0] for row in rows(second, "SELECT event_id FROM events ORDER BY event_id")]
    assert ids == [f"app:{n * length:015d}" for n in range(3)]
    second.close()


def test_a_service_and_an_environment_that_lines_lack_are_given(collector: Collector) -> None:
    collector.append([Lines("app", b"plain text\n", service="k12-core", environment="staging")])
    assert rows(collector, "SELECT service, environment FROM events") == [("k12-core", "staging")]


def test_I5_one_bad_line_of_a_thousand(collector: Collector) -> None:
    data = b"".join(log(f"line {n}") for n in range(499)) + b'{"broken": \n' + request() * 500
    answer = post(collector, data)
    assert answer == {
        "received": 1000,
        "stored": 999,
        "duplicates": 0,
        "rejected": [{"line": 500, "reason": "malformed"}],
    }
    told = post(collector, data, detail=True)
    assert told == answer | {"events": {"api.request": 500}, "logs": 499, "blank": 0}
    assert rows(collector, "SELECT count(*) FROM events") == [(2 * 999,)]


def test_I6_a_batch_with_the_same_key_is_taken_once(store: Store, clock: Time) -> None:
    first = Collector(store, clock)
    answer = post(first, log("a"), key="k1")
    assert post(first, log("a"), key="k1") == answer
    first.flush()
    assert post(first, log("a"), key="k1") == answer
    first.close()
    second = Collector(store, clock)
    assert post(second, log("a"), key="k1") == answer
    assert post(second, log("a"), key="k2")["stored"] == 1
    assert rows(second, "SELECT count(*) FROM events") == [(2,)]
    second.close()


def test_I6_many_senders_of_one_key_at_once(collector: Collector) -> None:
    answers: list[dict[str, Any]] = []
    threads = [
        threading.Thread(target=lambda: answers.append(post(collector, log("a"), key="k"))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8
    assert all(answer == answers[0] for answer in answers)
    assert rows(collector, "SELECT count(*) FROM events") == [(1,)]


def test_events_with_an_id_of_their_own_are_taken_once(store: Store, clock: Time) -> None:
    line = log("a", event_id=ID)
    first = Collector(store, clock)
    assert post(first, line * 2) == {"received": 2, "stored": 1, "duplicates": 1, "rejected": []}
    assert post(first, line)["duplicates"] == 1
    first.close()
    second = Collector(store, clock)
    assert post(second, line)["duplicates"] == 1
    assert rows(second, "SELECT count(*) FROM events") == [(1,)]
    second.close()


def test_D18_the_books_of_a_source_balance(collector: Collector) -> None:
    post(collector, log("a") + b"\n" + b"{oops\n" + request() + log("x", event_id=ID) * 2)
    collector.flush()
    books = collector.sources()["http"]["books"]
    assert books["lines"] == 6
    assert (books["logs"], books["events"], books["rejected"], books["duplicates"], books["blank"]) == (
        2,
        {"api.request": 1},
        1,
        1,
        1,
    )


def test_checkpoints_are_as_durable_as_their_lines(store: Store, clock: Time) -> None:
    first = Collector(store, clock)
    first.append([Lines("app", log("a"), checkpoint=("1:2", {"offset": 5}))])
    first._workers.close()  # the process ends here, unsealed
    second = Collector(store, clock)
    assert store.manifest.checkpoints() == {"1:2": {"offset": 5}}
    second.close()


def test_group_commit_serves_many_writers(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs: list[int] = []
    fdatasync = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (syncs.append(fd), fdatasync(fd))[1])

    def write(number: int) -> None:
        for n in range(50):
            collector.append([Lines(f"source-{number}", log(f"{number}-{n}"))])

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rows(collector, "SELECT count(DISTINCT message), count(DISTINCT event_id) FROM events") == [
        (400, 400)
    ]
    assert len(syncs) <= 400


def test_D6_a_full_disk_refuses_and_loses_nothing(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector.append([Lines("app", log("before"))])

    def full(_fd: int, _data: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("tocsin_server.spool.os.write", full)
        with pytest.raises(StorageError, match="No space left on device; free some space"):
            collector.append([Lines("app", log("refused"))])
        assert collector.error == "No space left on device"
    collector.append([Lines("app", log("after"))])
    assert collector.error is None
    assert rows(collector, "SELECT message FROM events ORDER BY event_id") == [("before",), ("after",)]


def test_D7_a_failed_fdatasync_is_never_acknowledged(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_fd: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("tocsin_server.spool.os.fdatasync", broken)
        with pytest.raises(StorageError):
            collector.append([Lines("app", log("a"))])
    collector.append([Lines("app", log("b"))])
    assert ("b",) in rows(collector, "SELECT message FROM events")


def test_a_segment_that_cannot_be_sealed_is_set_aside_whole(
    collector: Collector, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    collector.append([Lines("app", log("poison"))])

    def fails(*_: object) -> None:
        raise ValueError("a fault of ours")

    with monkeypatch.context() as patch:
        patch.setattr(module, "seal", fails)
        collector.flush()
    (kept,) = store.quarantine.iterdir()
    assert b"poison" in kept.read_bytes()
    assert collector.recovery.quarantined_bytes == kept.stat().st_size
    assert "cannot be sealed" in caplog.text
    collector.append([Lines("app", log("next"))])
    assert rows(collector, "SELECT message FROM events") == [("next",)]


def test_an_old_segment_is_sealed_even_if_nobody_reads(
    collector: Collector, store: Store, clock: Time
) -> None:
    collector.append([Lines("app", log("a"))])
    collector.tick(clock.now + module.SEGMENT_US - 1)
    assert segments(store.spool)
    collector.tick(clock.now + module.SEGMENT_US)
    assert not segments(store.spool)


def test_a_query_is_guarded_and_sees_everything(collector: Collector) -> None:
    collector.append([Lines("app", log("a"))])
    assert collector.query("SELECT message FROM events", 10).rows == [("a",)]


def test_D9_merging_keeps_every_row_and_readers_keep_their_files(
    collector: Collector, store: Store, clock: Time
) -> None:
    for n in range(40):
        collector.append([Lines("app", log(f"line {n}"))])
        collector.flush()
    before = rows(collector, "SELECT * FROM events ORDER BY event_id")
    with collector.connect() as reader:
        collector.maintain(clock.now, 30 * 86_400_000_000, None)
        assert reader.execute("SELECT count(*) FROM events").fetchone() == (40,)
    assert len(store.manifest.files()) == 40 - 2 * 15
    assert rows(collector, "SELECT * FROM events ORDER BY event_id") == before
    clock.now += module.RETIRED_US
    collector.maintain(clock.now, 30 * 86_400_000_000, None)
    assert len(list(store.events.rglob("*.parquet"))) == len(store.manifest.files())


def test_L4_retention_drops_the_oldest_files(collector: Collector, store: Store, clock: Time) -> None:
    day = 86_400_000_000
    collector.append([Lines("app", log("old"))])
    collector.flush()
    clock.now += 2 * day
    collector.append([Lines("app", log("new", at=None))])
    collector.flush()
    collector.maintain(clock.now, day, None)
    assert rows(collector, "SELECT message FROM events") == [("new",)]
    collector.maintain(clock.now, day, 0)
    assert rows(collector, "SELECT count(*) FROM events") == [(0,)]


_CHILD = """
import sys
from pathlib import Path
from tests.tocsin_server.loading import log
from tocsin_server.clock import real_clock
from tocsin_server.collector import Collector, Lines
from tocsin_server.store import Store

store = Store.create(Path(sys.argv[1]))
with store.writing():
    collector = Collector(store, real_clock)
    number = int(sys.argv[2])
    while True:
        collector.append([Lines("app", log(f"n{number}", at=None))])
        print(number, flush=True)
        number += 1
        if number % 7 == 0:
            collector.flush()
"""


def test_D1_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    acknowledged: list[int] = []
    for round_ in range(6):
        start = acknowledged[-1] + 1 if acknowledged else 0
        arguments = [sys.executable, "-c", _CHILD, str(tmp_path / "data"), str(start)]
        child = subprocess.Popen(arguments, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
        assert child.stdout is not None
        acknowledged += [int(child.stdout.readline()) for _ in range(3 + 11 * round_)]
        child.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in child.stdout.read().split(b"\n")[:-1]]
        child.stdout.close()
        child.wait()
    store = Store.create(tmp_path / "data")
    with store.writing():
        collector = Collector(store, lambda: NOW)
        found = sorted(int(row[0][1:]) for row in rows(collector, "SELECT message FROM events"))
        collector.close()
    store.close()
    assert set(acknowledged) <= set(found)
    in_flight = set(found) - set(acknowledged)
    assert len(in_flight) <= 6  # written when the process died, at most one a kill
    assert len(found) - len(set(found)) <= 6  # the same number again after an answer that was never given
