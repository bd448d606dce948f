"""The data folder: one writer, private files, one day a folder (rows D9, D14, D16)."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from loading import CLOCK, NOW, ids, load, log, rows, stream

from tocsin_server.errors import TocsinError
from tocsin_server.load import Options
from tocsin_server.sources import load_file
from tocsin_server.store import Store, day_of, parquet

HOLD = """
import sys
from pathlib import Path
from tocsin_server.store import Store
with Store(Path(sys.argv[1])).writing():
    print("writing", flush=True)
    sys.stdin.read()
"""


def test_D14_a_second_writer_is_refused_with_the_first_ones_pid_and_a_killed_one_blocks_nobody(
    store: Store,
) -> None:
    command = [sys.executable, "-c", HOLD, str(store.folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "writing\n"
        with (
            pytest.raises(TocsinError, match=rf"is being written by process {other.pid}: wait"),
            store.writing(),
        ):
            raise AssertionError
        assert rows(store) == []  # readers need no lock
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert (store.folder / "lock").read_text() == str(other.pid)
    with store.writing():
        assert (store.folder / "lock").read_text() == str(os.getpid())


def test_D14_the_lock_is_free_after_an_error(store: Store) -> None:
    with pytest.raises(RuntimeError), store.writing():
        raise RuntimeError
    with store.writing():
        pass


def test_D16_a_folder_of_a_newer_format_is_refused(store: Store) -> None:
    with sqlite3.connect(store.folder / "manifest.db") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    for enter in (Store.open, Store.create):
        with pytest.raises(TocsinError, match="has format 99, this Tocsin reads up to 2"):
            enter(store.folder)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077], ids=oct)
def test_only_the_owner_may_read_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    (tmp_path / "app.log").write_bytes(log("a") + log("b", "2026-11-22T01:00:00Z") + b"{broken\n")
    before = os.umask(umask)
    try:
        store = Store.create(tmp_path / "deep" / "data")
        load(store, tmp_path / "app.log")
        stream(store, log("c"))
        modes = {
            path.relative_to(store.folder).as_posix(): stat.S_IMODE(path.stat().st_mode)
            for path in [store.folder, *store.folder.rglob("*")]
            if path.exists()
        }
    finally:
        os.umask(before)
    assert {name for name, mode in modes.items() if mode not in (0o700, 0o600)} == set()
    assert {name for name, mode in modes.items() if mode == 0o700} == {
        ".",
        "events",
        "events/day=2026-11-22",
        "events/day=2026-11-23",
        "spool",
        "quarantine",
    }
    store.close()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TocsinError, match=r"cannot make the data folder .*; choose one with --data"):
        Store.create(tmp_path / "file" / "data")


def test_a_folder_without_data_is_not_made_by_reading(tmp_path: Path) -> None:
    with pytest.raises(TocsinError, match=r"no data in .*absent: load some with `tocsin ingest FILE --data"):
        Store.open(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


def test_an_empty_store_has_an_empty_events_table(store: Store) -> None:
    assert rows(store) == []


DAYS = {
    "0001-01-01T00:00:00Z": "0001-01-01",
    "1969-12-31T23:59:59.999Z": "1969-12-31",
    "1970-01-01T00:00:00Z": "1970-01-01",
    "2026-11-23T23:59:59.999Z": "2026-11-23",
    "2026-11-24T00:00:00Z": "2026-11-24",
    "9999-12-31T23:59:59.999Z": "9999-12-31",
}


def test_I10_each_day_has_a_folder_and_each_event_lies_in_its_own(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_bytes(b"".join(log(at, at) for at in DAYS))
    with store.writing():
        load_file(store, path, CLOCK, Options(replay=True))
    assert sorted(folder.name for folder in store.events.iterdir()) == [f"day={day}" for day in DAYS.values()]
    for file in store.manifest.files():
        (at,) = duckdb.sql(f"SELECT message FROM {parquet.scan(store.paths([file]))}").fetchall()[0]
        assert file.name.startswith(f"day={DAYS[at]}/")
        assert file.min_ts == file.max_ts
        assert day_of(file.min_ts) == DAYS[at]
    assert rows(store, "message, ts = message::TIMESTAMPTZ") == [(at, True) for at in DAYS]


def test_the_manifest_knows_what_is_in_each_file(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    times = [f"2026-11-23T07:55:{second:02d}.000Z" for second in (30, 10, 50, 20)]
    path.write_bytes(
        b"".join(log("x", at) for at in times) + log("own", times[0], event_id="0123456789abcdef")
    )
    load(store, path)
    (file,) = store.manifest.files()
    assert (file.rows, file.own_ids, file.max_ts - file.min_ts) == (5, 1, 40_000_000)
    assert file.bytes == store.paths()[0].stat().st_size


def test_D9_what_no_manifest_row_names_is_removed_by_the_next_writer(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_bytes(log("a"))
    load(store, path)
    (kept,) = store.paths()
    strangers = [kept.with_name("00000009-dead.parquet"), kept.with_name("tmp_00000009-dead.parquet")]
    for stranger in strangers:
        stranger.write_bytes(b"half a file")
    assert len(rows(store)) == 1
    with store.writing():
        pass
    assert list(kept.parent.iterdir()) == [kept]


def test_a_view_keeps_its_rows_while_more_is_loaded(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_bytes(log("a"))
    load(store, path)
    with store.connect() as connection:
        path.write_bytes(log("a") + log("b"))
        load(store, path)
        assert connection.execute("SELECT message FROM events").fetchall() == [("a",)]
    assert len(ids(store)) == 2


def test_expire_deletes_dead_letters_after_seven_days(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_bytes(b"{broken\n")
    load(store, path)
    store.expire(NOW)
    assert len(store.manifest.dead_letters()) == 1
    store.expire(NOW + 8 * 86_400_000_000)
    assert store.manifest.dead_letters() == []
