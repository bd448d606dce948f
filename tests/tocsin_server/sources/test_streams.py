"""``tocsin ingest -``: durable before it is loaded, known by its source's name, bounded (T7, T9, T13)."""

from __future__ import annotations

import errno
import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loading import CLOCK, NOW, assert_books_balance, ids, load, log, messages, pipe, request, rows, stream

from tocsin_server.chunks import KEPT_BYTES, MAX_LINE_BYTES
from tocsin_server.load import Books, Options
from tocsin_server.sources import load_stream, recover_spool, stop_signals, streams
from tocsin_server.spool import Recovery, Segment, read_segment, segments
from tocsin_server.store import Store

A, B, C = log("a"), log("b"), log("c")
HALF = b'{"timestamp":"2026-11-23T07:55:12Z","level":"INFO","mess'


class Killed(BaseException):
    """The process dies here."""


def kill(*_arguments: object) -> None:
    raise Killed


def killed(store: Store, *blocks: bytes, **options: str) -> None:
    """A run that is killed at the end of the stream, with everything in the spool and nothing sealed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "seal", kill)
        with pytest.raises(Killed):
            stream(store, *blocks, **options)


def recover(store: Store) -> Recovery:
    with store.writing():
        return recover_spool(store, Options())


def test_a_stream_is_loaded_and_the_spool_is_empty(store: Store) -> None:
    books = stream(store, A + request(), b"\n" + HALF, b"\nplain\n")
    assert books.as_json() == {
        "lines": 5,
        "events": {"api.request": 1},
        "logs": 2,
        "rejected": 1,
        "duplicates": 0,
        "blank": 1,
        "bytes": len(A + request() + HALF) + 8,
        "dialects": {"canonical": 2, "text": 1},
    }
    assert list(store.spool.iterdir()) == []
    assert_books_balance(store, books)


def test_an_anonymous_stream_is_always_new(store: Store) -> None:
    loads = [stream(store, A), stream(store, A)]
    assert [books.logs for books in loads] == [1, 1]
    sources = [row[0] for row in rows(store, "DISTINCT source")]
    assert len(sources) == 2
    assert all(source.startswith("stdin-") for source in sources)
    assert_books_balance(store, *loads)


def test_service_is_that_of_lines_which_name_none(store: Store) -> None:
    stream(store, b"text\n" + A, service="web")
    assert sorted(rows(store, "message, service")) == [("a", "core"), ("text", "web")]


def test_the_same_stream_twice_adds_nothing(store: Store) -> None:
    loads = [stream(store, A + B, source="app"), stream(store, A, B, source="app")]
    assert [books.lines for books in loads] == [2, 0]
    assert ids(store) == [f"app:{position:015d}" for position in (0, len(A))]
    assert_books_balance(store, *loads)


def test_a_longer_stream_continues(store: Store) -> None:
    loads = [stream(store, data, source="app") for data in (A, A + B, A + B + C)]
    assert [books.lines for books in loads] == [1, 1, 1]
    assert messages(store) == ["a", "b", "c"]
    assert ids(store) == [f"app:{position:015d}" for position in (0, len(A), len(A + B))]
    assert_books_balance(store, *loads)


def test_a_different_stream_under_the_same_name_is_new(store: Store) -> None:
    loads = [stream(store, data, source="app") for data in (A + B, C + B, B, A + B, C + B + A)]
    assert [books.lines for books in loads] == [2, 2, 1, 0, 1]
    assert sorted(messages(store)) == sorted("abcbba")
    assert_books_balance(store, *loads)


def test_a_stream_that_differs_after_the_head_is_not_lost(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held back over many reads, with a line across their borders: positions stay those of the lines."""
    monkeypatch.setattr(streams, "_READ_BYTES", 1000)
    first = [log(f"line {number}") for number in range(100)]
    second = [*first[:70], *(log(f"other {number}") for number in range(100))]
    loads = [stream(store, b"".join(lines), source="app") for lines in (first, second)]
    assert [books.lines for books in loads] == [100, 170]
    starts = [sum(map(len, second[:n])) + sum(map(len, first)) for n in range(170)]
    assert ids(store)[100:] == [f"app:{start:015d}" for start in starts]
    assert_books_balance(store, *loads)


def test_a_shorter_stream_is_other_bytes(store: Store) -> None:
    """A stream is known where a load ended, as a file is; a beginning of it has another SHA-256."""
    loads = [stream(store, data, source="app") for data in (A, A + B + C, A, A + B)]
    assert [books.lines for books in loads] == [1, 2, 0, 1]
    assert_books_balance(store, *loads)


def test_the_same_name_with_another_stream_between(store: Store) -> None:
    loads = [stream(store, data, source="app") for data in (A, B, A + C)]
    assert sorted(messages(store)) == ["a", "b", "c"]
    assert_books_balance(store, *loads)


def test_a_stream_and_a_file_of_the_same_bytes(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_bytes(A + B)
    loads = [stream(store, A, source="app"), load(store, path), stream(store, A + B + C, source="app")]
    assert [books.lines for books in loads] == [1, 1, 1]
    assert messages(store) == ["a", "b", "c"]
    assert_books_balance(store, *loads)


@pytest.mark.parametrize("end", [HALF, B[:-1], b"text"], ids=["half", "whole", "text"])
def test_T13_the_last_line_without_newline_is_kept(store: Store, end: bytes) -> None:
    loads = [stream(store, A + end, source="app"), stream(store, A + end, source="app")]
    assert [books.lines for books in loads] == [2, 0]
    assert_books_balance(store, *loads)


@pytest.mark.parametrize("cut", [1, len(B) // 2, len(B) - 2, len(B) - 1])
@pytest.mark.parametrize("between", [b"", C], ids=["next", "later"])
def test_T7_a_line_cut_by_the_end_of_a_stream_and_then_completed_is_one_event(
    store: Store, cut: int, between: bytes
) -> None:
    stream(store, A + B[:cut], source="app")
    if between:
        stream(store, between, source="app")
    stream(store, A + B, source="app")
    assert sorted(messages(store)) == sorted("ab" + ("c" if between else ""))
    assert store.manifest.dead_letters() == []
    ids(store)
    assert stream(store, A + B, source="app") == Books()


def test_T7_a_cut_line_is_replaced_only_when_its_whole_line_is_loaded(store: Store) -> None:
    stream(store, A + HALF, source="app")
    killed(store, A + HALF + b'age":"b"}\n', source="app")
    assert [letter.line for letter in store.manifest.dead_letters()] == [HALF]
    recover(store)
    assert store.manifest.dead_letters() == []
    assert messages(store) == ["a", "b"]


def test_T7_a_file_completes_the_last_line_of_a_stream(store: Store, tmp_path: Path) -> None:
    stream(store, A + HALF, source="app")
    path = tmp_path / "app.log"
    path.write_bytes(A + HALF + b'age":"b"}\n')
    load(store, path)
    assert messages(store) == ["a", "b"]
    assert store.manifest.dead_letters() == []


def test_T9_a_huge_line_in_a_stream_is_bounded_and_the_next_one_is_fine(store: Store) -> None:
    huge = b'{"message":"' + b"x" * (3 * MAX_LINE_BYTES)
    data = A + huge + b"\n" + B
    loads = [stream(store, data, source="app"), stream(store, data + C, source="app")]
    assert [books.lines for books in loads] == [3, 1]
    positions = [0, len(A) + len(huge) + 1, len(data)]
    assert rows(store, "message, event_id") == [
        (text, f"app:{position:015d}") for text, position in zip("abc", positions, strict=True)
    ]
    (letter,) = store.manifest.dead_letters()
    assert (letter.position, letter.reason, letter.line) == (len(A), "too_long", huge[:KEPT_BYTES])
    assert_books_balance(store, *loads)


def test_T9_a_huge_last_line_is_bounded(store: Store) -> None:
    loads = [stream(store, A + b"x" * (3 * MAX_LINE_BYTES), source="app")]
    assert loads[0].bytes == len(A) + 3 * MAX_LINE_BYTES
    assert loads[0].logs == 2
    loads.append(stream(store, A + b"x" * (3 * MAX_LINE_BYTES), source="app"))
    assert_books_balance(store, *loads)


def test_a_byte_order_mark_is_stripped_at_the_start_of_each_stream(store: Store) -> None:
    bom = b"\xef\xbb\xbf"
    loads = [stream(store, bom + A, source="app"), stream(store, bom + B + bom + C, source="app")]
    assert messages(store) == ["a", "b"]
    assert [letter.reason for letter in store.manifest.dead_letters()] == ["byte_order_mark"]
    assert_books_balance(store, *loads)


# ---- durable before it is loaded -----------------------------------------------------------------


def test_lines_are_durable_when_the_writer_pauses(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause commits what is there; after a kill the next command loads it."""
    commits: list[int] = []
    commit = Segment.commit
    monkeypatch.setattr(
        Segment, "commit", lambda segment: (commits.append(segment.bytes), commit(segment))[1]
    )
    reader, writer = os.pipe()
    waits = iter([lambda: os.write(writer, A + B), lambda: os.write(writer, HALF), kill])
    select = streams.select.select

    def select_after_writing(fds: list[int], *others: object) -> object:
        ready = select(fds, [], [], 0)
        if not ready[0] and others[-1] != 0:
            next(waits)()
            ready = select(fds, [], [], 0)
        return ready

    monkeypatch.setattr(streams.select, "select", select_after_writing)
    with pytest.raises(Killed), store.writing():
        load_stream(store, reader, CLOCK, Options())
    os.close(reader)
    os.close(writer)
    (path,) = segments(store.spool)
    assert commits == [path.stat().st_size]
    assert [batch.data for batch in read_segment(path, Recovery())] == [A + B]
    assert recover(store) == Recovery()
    assert messages(store) == ["a", "b"]  # the half line was never whole, and nobody was told it is kept


def test_lines_are_committed_at_the_latest_after_4_MiB(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_COMMIT_BYTES", 3 * len(A))
    commits: list[int] = []
    commit = Segment.commit
    monkeypatch.setattr(Segment, "commit", lambda segment: (commits.append(1), commit(segment))[1])
    monkeypatch.setattr(streams, "_READ_BYTES", len(A))
    with store.writing(), pipe([A * 10]) as fd:
        load_stream(store, fd, CLOCK, Options())
    assert len(commits) >= 3


def test_events_are_visible_at_the_latest_after_a_segment(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "SEGMENT_BYTES", 2000)
    monkeypatch.setattr(streams, "_READ_BYTES", 100)
    seen: list[int] = []
    seal = streams.seal

    def seal_and_look(*arguments: object) -> object:
        result = seal(*arguments)  # type: ignore[arg-type]
        seen.append(len(rows(store)))
        return result

    monkeypatch.setattr(streams, "seal", seal_and_look)
    lines = [log(f"line {number}") for number in range(40)]
    books = stream(store, b"".join(lines), source="app")
    assert len(seen) > 3
    assert messages(store) == [f"line {number}" for number in range(40)]
    assert stream(store, b"".join(lines), source="app") == Books()
    assert_books_balance(store, books)


def test_D5_a_damaged_batch_is_kept_for_a_human_and_the_others_are_loaded(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "_READ_BYTES", len(A))
    killed(store, A + B + C, source="app")
    (path,) = segments(store.spool)
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"message":"b"', b'"message":"X"') + b"torn")
    recovery = recover(store)
    damaged = B.replace(b'"b"', b'"X"')
    assert (recovery.truncated_bytes, recovery.quarantined) == (4, [damaged])
    assert messages(store) == ["a", "c"]
    assert ids(store) == [f"app:{position:015d}" for position in (0, len(A + B))]
    (kept,) = store.quarantine.iterdir()
    assert kept.read_bytes() == damaged
    assert kept.stat().st_mode & 0o777 == 0o600
    assert segments(store.spool) == []


def test_D5_quarantined_bytes_are_kept_before_the_segment_goes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(store, A, source="app")
    (path,) = segments(store.spool)
    path.write_bytes(path.read_bytes().replace(b'"message":"a"', b'"message":"X"'))
    with monkeypatch.context() as patch:
        patch.setattr(streams, "_delete", kill)
        with pytest.raises(Killed):
            recover(store)
    assert [kept.read_bytes() for kept in store.quarantine.iterdir()] == [A.replace(b'"a"', b'"X"')]
    recover(store)
    assert len(list(store.quarantine.iterdir())) == 1
    assert segments(store.spool) == []


def test_D1_killed_after_publishing_a_segment_is_not_loaded_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(streams, "_delete", kill)
        with pytest.raises(Killed):
            stream(store, A + B)
    assert len(segments(store.spool)) == 1
    assert messages(store) == ["a", "b"]
    recover(store)
    assert messages(store) == ["a", "b"]
    assert segments(store.spool) == []
    assert store.manifest.sealed_segments() == set()


def test_D1_killed_while_sealing_leaves_the_segment(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(store.manifest, "add_sealed_segment", kill)
        with pytest.raises(Killed):
            stream(store, A + B, source="app")
    assert rows(store) == []
    recover(store)
    assert messages(store) == ["a", "b"]
    assert stream(store, A + B + C, source="app").logs == 1
    ids(store)


def test_D7_a_disk_that_refuses_to_sync_ends_the_stream_and_loads_no_more(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", refuse)
        with pytest.raises(OSError, match="Input/output error"):
            stream(store, A, source="app")
    assert rows(store) == []
    recover(store)
    stream(store, A + B, source="app")
    assert messages(store) == ["a", "b"]


@settings(max_examples=6, deadline=None)
@given(st.data())
def test_D1_killed_anywhere_and_run_again_is_as_run_once(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """The stream ends at some byte, its segment is torn at some byte, and it all starts again."""
    store = Store.create(tmp_path_factory.mktemp("data"))
    lines = data.draw(
        st.lists(st.sampled_from([A, B, b"\n", b"text\n", HALF + b"\n"]), min_size=1, max_size=12)
    )
    whole = b"".join(lines)
    for end in sorted(data.draw(st.lists(st.integers(0, len(whole)), min_size=1, max_size=2))):
        with suppress(Killed), pytest.MonkeyPatch.context() as patch:
            patch.setattr(streams, "seal", kill)
            stream(store, whole[:end], source="app")
        for path in segments(store.spool):
            os.truncate(path, data.draw(st.integers(0, path.stat().st_size)))
        recover(store)
    stream(store, whole, source="app")
    starts = [sum(map(len, lines[:n])) for n in range(len(lines))]
    expected = [start for start, line in zip(starts, lines, strict=True) if line not in (b"\n", HALF + b"\n")]
    assert ids(store) == [f"app:{start:015d}" for start in expected]
    assert len(store.manifest.dead_letters()) == lines.count(HALF + b"\n")
    assert stream(store, whole, source="app") == Books()
    store.close()


# ---- told to stop --------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=str)
def test_D13_a_signal_ends_the_stream_and_keeps_what_was_read(store: Store, number: signal.Signals) -> None:
    reader, writer = os.pipe()
    os.write(writer, A + b"half")

    def told_at_this_moment() -> int:
        signal.raise_signal(number)  # in the middle of the work, not while waiting
        return NOW

    with store.writing(), stop_signals() as stop:
        books = load_stream(store, reader, told_at_this_moment, Options(), stop)
    os.close(reader)
    os.close(writer)
    assert books.logs == 2
    assert messages(store) == ["a", "half"]


def test_D13_stopped_while_a_known_stream_is_skipped_adds_nothing(store: Store) -> None:
    lines = b"".join(log(f"line {number}") for number in range(200))
    stream(store, lines, source="app")
    reader, writer = os.pipe()
    os.write(writer, lines[:6000])
    stop, tell = os.pipe()
    select = streams.select.select

    def tell_when_it_waits(fds: list[int], *_others: object) -> object:
        if not select(fds, [], [], 0)[0]:
            os.write(tell, b".")
        return select(fds, [], [], 0)

    with pytest.MonkeyPatch.context() as patch, store.writing():
        patch.setattr(streams.select, "select", tell_when_it_waits)
        books = load_stream(store, reader, CLOCK, Options(source="app"), stop)
    for fd in (reader, writer, stop, tell):
        os.close(fd)
    assert books == Books()
    assert len(ids(store)) == 200


def test_stop_signals_puts_the_handlers_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with stop_signals():
        assert signal.getsignal(signal.SIGTERM) is not before[1]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    assert signal.set_wakeup_fd(-1) == -1
