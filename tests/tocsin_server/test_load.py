"""Loading chunks: the same result whatever the chunks, duplicates, inferred times, dead letters."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loading import (
    CLOCK,
    NOW,
    assert_books_balance,
    assert_no_strangers,
    ids,
    load,
    log,
    messages,
    request,
    rows,
    stream,
)

from tocsin_server.clock import frozen_clock
from tocsin_server.load import Books, Options
from tocsin_server.sources import load_file, recover_spool
from tocsin_server.store import Store
from tocsin_server.store.manifest import DeadLetter, SealedFile

OWN = "0123456789abcdef"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "app.log"


# ---- the same result, whatever the chunks and threads --------------------------------------------


def nested(inner: bytes) -> bytes:
    """A canonical line inside the message of a Rails line."""
    return log("[web] [6f1c] " + inner.decode().rstrip("\n"))


LINES = [
    *(log(f"text {n}", f"2026-11-23T07:55:{n:02d}.500Z") for n in range(4)),
    *(request(200 + 100 * n, f"2026-11-2{n}T23:59:59.9{n}9Z") for n in range(4)),
    request(user_id="42", tenant_id=7),
    log("no time", at=None),
    log("own", event_id=OWN),
    log("own again", event_id=OWN),
    log("another own", event_id=OWN[::-1], at="2026-11-22T08:00:00Z"),
    nested(request(503)),
    b"plain text\n",
    "caf\u00e9 \u2028 \U0001f514\n".encode(),
    b"\xff\xfe\n",
    b"caf\xe9\n",
    b"\n",
    b"  \r\n",
    b'{"half":\n',
    b'{"x":NaN}\n',
    b"[]\n",
    b'{"message":"' + b"x" * 9000 + b'"}\n',
    b"\x00\x00\n",
    log("carriage return").replace(b"\n", b"\r\n"),
]


def outcome(store: Store, books: Books) -> Any:
    letters = [(one.position, one.reason, one.line) for one in store.manifest.dead_letters(limit=10_000)]
    return rows(store, "* EXCLUDE (user_id)"), sorted(letters), books


@settings(max_examples=6, deadline=None)
@given(
    st.lists(st.sampled_from(LINES), max_size=40),
    st.booleans(),
    st.lists(st.tuples(st.integers(1, 3000), st.integers(1, 3)), min_size=1, max_size=2),
)
def test_D18_the_result_does_not_depend_on_chunks_and_threads(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], ends: bool, ways: list[tuple[int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("ways")
    data = b"".join([LINES[0], *lines])  # a time before the lines that have none
    (folder / "app.log").write_bytes(data if ends else data[:-1])
    results = []
    for number, (chunk_bytes, threads) in enumerate([(32 << 20, 2), *ways]):
        store = Store.create(folder / str(number))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tocsin_server.sources.files.CHUNK_BYTES", chunk_bytes)
            books = load(store, folder / "app.log", threads=threads)
        assert_books_balance(store, books)
        results.append(outcome(store, books))
        store.close()
    assert results[1:] == results[:1] * len(ways)


def test_D18_a_stream_and_a_file_of_the_same_lines_are_equal(
    store: Store, path: Path, tmp_path: Path
) -> None:
    data = b"".join(LINES) + b"the end"
    path.write_bytes(data)
    other = Store.create(tmp_path / "other")
    results = [
        outcome(store, load(store, path, source="app")),
        outcome(other, stream(other, data, source="app")),
    ]
    other.close()
    assert results[0] == results[1]


# ---- duplicates by the line's own event_id -------------------------------------------------------


def own(event_id: str, at: str = "2026-11-23T07:00:00Z", **fields: object) -> bytes:
    return log("own", at, event_id=event_id, **fields)


def test_I6_twice_in_one_file(store: Store, path: Path) -> None:
    path.write_bytes(own(OWN) + log("a") + own(OWN, level="WARN") + request(event_id=OWN))
    books = load(store, path)
    assert (books.lines, books.logs, books.duplicates, books.events.total()) == (4, 2, 2, 0)
    assert rows(store, "level", f"event_id = '{OWN}'") == [("info",)]  # the first one stays
    assert_books_balance(store, books)


def test_I6_twice_in_two_chunks_and_on_two_days(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tocsin_server.sources.files.CHUNK_BYTES", 100)
    path.write_bytes(own(OWN, "2026-11-22T23:30:00Z") + log("a") * 5 + own(OWN, "2026-11-23T00:30:00Z"))
    books = load(store, path)
    assert (books.logs, books.duplicates) == (6, 1)
    assert_books_balance(store, books)


def test_I6_twice_in_two_files_and_after_a_restart(store: Store, path: Path) -> None:
    path.write_bytes(own(OWN) + log("a"))
    loads = [load(store, path)]
    store.close()
    again = Store.open(store.folder)
    other = path.with_name("other.log")
    other.write_bytes(log("b") + own(OWN) + own(OWN[::-1]))
    loads.append(load(again, other))
    loads.append(stream(again, own(OWN) + own(OWN[::-1])))
    assert [(books.logs, books.duplicates) for books in loads] == [(2, 0), (2, 1), (0, 2)]
    assert_books_balance(again, *loads)
    again.close()


@pytest.mark.parametrize(
    ("second", "kept"),
    [
        ("2026-11-22T07:00:00.001Z", 2),
        ("2026-11-22T08:00:00Z", 2),
        ("2026-11-22T07:00:00Z", 1),
        ("2026-11-20T06:59:59.999Z", 2),
        ("2026-11-20T07:00:00Z", 1),
    ],
)
@pytest.mark.parametrize("together", [True, False], ids=["one-load", "two-loads"])
def test_I6_only_within_24_hours(store: Store, path: Path, second: str, kept: int, together: bool) -> None:
    first = "2026-11-21T07:00:00Z"
    lines = own(OWN, first), own(OWN, second)
    loads = []
    for data in [b"".join(lines)] if together else [lines[0], b"".join(lines)]:
        path.write_bytes(data)
        loads.append(load(store, path))
    assert sum(books.logs for books in loads) == kept == len(rows(store))
    assert sum(books.duplicates for books in loads) == 2 - kept


@pytest.mark.parametrize("steps", [[3], [1, 3], [2, 3], [1, 2, 3]])
def test_I6_only_events_that_are_kept_make_duplicates(store: Store, path: Path, steps: list[int]) -> None:
    """At 0 h, 20 h and 40 h: the second is a duplicate of the first, the third of none that is kept."""
    lines = [own(OWN, at) for at in ("2026-11-20T00:00:00Z", "2026-11-20T20:00:00Z", "2026-11-21T16:00:00Z")]
    for count in steps:
        path.write_bytes(b"".join(lines[:count]))
        load(store, path)
    assert len(rows(store)) == 2


def test_I10_a_chunk_of_many_days_becomes_a_file_a_day(store: Store, path: Path) -> None:
    path.write_bytes(b"".join(log("x", f"2026-{month:02d}-03T07:00:00Z") for month in range(1, 11)))
    assert_books_balance(store, load(store, path))
    assert len(store.manifest.files()) == 10


def test_I6_a_file_of_nothing_but_duplicates_leaves_no_parquet_file(store: Store, path: Path) -> None:
    path.write_bytes(own(OWN))
    first = load(store, path)
    path.write_bytes(own(OWN) * 3 + own(OWN) + b"\n")
    second = load(store, path)
    assert (second.duplicates, second.logs, second.blank) == (3, 0, 1)
    assert len(store.manifest.files()) == 1
    assert_books_balance(store, first, second)
    assert_no_strangers(store)


def test_I6_a_short_id_is_no_identity(store: Store, path: Path) -> None:
    path.write_bytes(own(OWN[:15]) * 2)
    books = load(store, path)
    assert (books.logs, books.duplicates) == (2, 0)


# ---- times that the lines do not say -------------------------------------------------------------


def test_a_line_without_time_takes_the_newest_before_it_across_chunks(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tocsin_server.sources.files.CHUNK_BYTES", 64)
    newest, older = "2026-11-23T07:55:50Z", "2026-11-23T07:55:10Z"
    path.write_bytes(log("a", newest) + b"text\n" + log("b", older) + b"more\n" * 30 + log("c", None))
    load(store, path)
    inferred = rows(store, "DISTINCT ts = '2026-11-23T07:55:50Z'", "attrs->>'ts_inferred' = 'true'")
    assert inferred == [(True,)]
    assert len(rows(store, "1", "attrs->>'ts_inferred' = 'true'")) == 32
    assert rows(store, "message", "attrs IS NULL") == [("a",), ("b",)]


def test_a_line_without_time_takes_the_newest_before_it_across_loads(store: Store, path: Path) -> None:
    path.write_bytes(log("a", "2026-11-23T07:55:50Z"))
    load(store, path)
    with path.open("ab") as file:
        file.write(b"text\n")
    load(store, path, frozen_clock(NOW + 1_000_000))
    stream(store, b"text\n", source=str(path))
    assert len(rows(store, "1", "message = 'text' AND ts = '2026-11-23T07:55:50Z'")) == 2
    stream(store, b"text\n", source="another")
    assert rows(store, "epoch_us(ts), attrs->>'ts_inferred'", "source = 'another'") == [(NOW, "true")]


def test_a_time_ahead_of_the_clock_is_corrected_unless_history_is_replayed(store: Store, path: Path) -> None:
    path.write_bytes(log("a", "2026-11-23T09:00:00Z") + b"text\n")
    load(store, path)
    assert rows(store, "DISTINCT epoch_us(ts)") == [(NOW,)]
    path.write_bytes(log("b", "2026-11-23T09:00:00Z") + b"more\n")
    with store.writing():
        load_file(store, path, CLOCK, Options(replay=True))
    assert rows(store, "DISTINCT epoch_us(ts) - " + str(NOW), "message IN ('b', 'more')") == [
        (3_600_000_000,)
    ]


# ---- dead letters --------------------------------------------------------------------------------


def test_I5_one_bad_line_of_a_thousand(store: Store, path: Path) -> None:
    bad = b'{"broken": \xff\x00\x1b[0m tru\r'
    good = [log(f"line {number}") for number in range(999)]
    path.write_bytes(b"".join(good[:500]) + bad + b"\n" + b"".join(good[500:]))
    books = load(store, path)
    assert (books.logs, books.rejected) == (999, 1)
    position = sum(map(len, good[:500]))
    assert store.manifest.dead_letters() == [DeadLetter(str(path), position, "nul_bytes", NOW, bad)]
    assert len(messages(store)) == 999


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a":1,}', "malformed"),
        (b'{"a":NaN}', "non_finite"),
        (b"[1]", "not_object"),
        (b"{" + b'"a":{' * 40 + b"}" * 41, "too_deep"),
        (b'{"a":"\x01"}', "control_character"),
        (b"\xef\xbb\xbf{}", "byte_order_mark"),
    ],
)
def test_I2_a_dead_letter_has_reason_source_position_and_exact_bytes(
    store: Store, line: bytes, reason: str
) -> None:
    before = log("a")
    books = stream(store, before + line + b"\n" + before, source="app")
    assert store.manifest.dead_letters() == [DeadLetter("app", len(before), reason, NOW, line)]
    assert_books_balance(store, books)


# ---- all or nothing ------------------------------------------------------------------------------


def test_D1_an_error_in_one_chunk_publishes_nothing_and_the_next_load_everything(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tocsin_server.sources.files.CHUNK_BYTES", 200)
    path.write_bytes(b"".join(log(f"line {number}") for number in range(50)) + b"{bad\n")
    calls = []
    fsync = os.fsync

    def fail_at_the_fifth(fd: int) -> None:
        calls.append(fd)
        if len(calls) == 5:
            raise OSError("Input/output error")
        fsync(fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail_at_the_fifth)
        with pytest.raises(OSError, match="Input/output error"):
            load(store, path)
    assert rows(store) == []
    assert store.manifest.dead_letters() == []
    assert store.manifest.source(str(path)) == (0, None)
    books = load(store, path)
    assert (books.logs, books.rejected) == (50, 1)
    assert_books_balance(store, books)


@pytest.mark.parametrize("way", ["file", "stream"])
def test_D3_everything_is_synced_before_the_manifest_names_it(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Files and the folders that hold them: a name that is not synced is gone when the power fails."""
    synced: set[str] = set()
    missing: list[str] = []
    for name in ("fsync", "fdatasync"):
        call = getattr(os, name)

        def noting(fd: int, call: Any = call) -> None:
            call(fd)
            synced.add(os.readlink(f"/proc/self/fd/{fd}"))

        monkeypatch.setattr(os, name, noting)
    store = Store.create(tmp_path / "deep" / "data")
    add_file = store.manifest.add_file

    def add_synced_file(content: int, file: SealedFile) -> None:
        named = store.events / file.name
        needed = {named, *store.spool.iterdir()}
        needed |= {folder for one in needed for folder in one.parents if folder.is_relative_to(tmp_path)}
        missing.extend(str(one) for one in needed if str(one) not in synced)
        add_file(content, file)

    monkeypatch.setattr(store.manifest, "add_file", add_synced_file)
    data = log("a") + log("b", "2026-11-22T08:00:00Z") + own(OWN) + own(OWN)
    path.write_bytes(data)
    books = load(store, path) if way == "file" else stream(store, data)
    assert (books.logs, books.duplicates) == (3, 1)
    assert missing == []
    store.close()


def test_progress_is_told_every_byte(store: Store, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tocsin_server.sources.files.CHUNK_BYTES", 100)
    path.write_bytes(log("a") * 20 + b"tail")
    told: list[int] = []
    books = load(store, path, progress=told.append)
    assert sum(told) == books.bytes == path.stat().st_size


def test_a_person_has_one_pseudonym_in_all_loads(store: Store, path: Path) -> None:
    for number in range(2):
        path.write_bytes(
            log(f"n{number}", user_id="4711", tenant_id="7") + log("x", user_id="4711", tenant_id="8")
        )
        load(store, path)
    with store.writing():
        recover_spool(store, Options())
    people = rows(store, "DISTINCT tenant_id, user_id")
    assert len(people) == 2
    assert all(person.startswith("u_") for _tenant, person in people)
    assert len(ids(store)) == 4
