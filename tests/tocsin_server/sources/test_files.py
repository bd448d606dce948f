"""``tocsin ingest PATH``: the same bytes add nothing, new ones are loaded once, the books balance (D18)."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loading import CLOCK, assert_books_balance, ids, load, log, messages, request, rows

from tocsin_server.chunks import KEPT_BYTES, MAX_LINE_BYTES
from tocsin_server.errors import TocsinError
from tocsin_server.load import Books, Options
from tocsin_server.sources import load_file
from tocsin_server.sources.reader import Reader
from tocsin_server.store import Store
from tocsin_server.store.manifest import DeadLetter

A, B, C = log("a"), log("b"), log("c")
HALF = b'{"timestamp":"2026-11-23T07:55:12Z","level":"INFO","mess'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "app.log"


def test_the_same_bytes_add_nothing_under_any_name(store: Store, path: Path, tmp_path: Path) -> None:
    path.write_bytes(A + request() + b"\n" + HALF + b"\n")
    first = load(store, path)
    other = tmp_path / "copy.log"
    other.write_bytes(path.read_bytes())
    again = [load(store, path), load(store, other), load(store, other, source="named", service="x")]
    assert first.as_json() == {
        "lines": 4,
        "events": {"api.request": 1},
        "logs": 1,
        "rejected": 1,
        "duplicates": 0,
        "blank": 1,
        "bytes": path.stat().st_size,
        "dialects": {"canonical": 2},
    }
    assert again == [Books()] * 3
    assert_books_balance(store, first, *again)


def test_a_file_that_grew_continues_where_it_ended(store: Store, path: Path) -> None:
    path.write_bytes(A)
    loads = [load(store, path)]
    for line in (B, C):
        with path.open("ab") as file:
            file.write(line)
        loads.append(load(store, path))
    assert [books.lines for books in loads] == [1, 1, 1]
    assert ids(store) == [f"{path}:{position:015d}" for position in (0, len(A), len(A + B))]
    assert messages(store) == ["a", "b", "c"]
    assert_books_balance(store, *loads)


def test_a_file_that_grew_under_another_name_continues_its_source(store: Store, path: Path) -> None:
    path.write_bytes(A)
    renamed = path.with_name("app.log.1")
    first = load(store, path)
    renamed.write_bytes(A + B)
    path.write_bytes(C)
    loads = [first, load(store, renamed), load(store, path)]
    assert rows(store, "message, source") == [(text, str(path)) for text in "abc"]
    assert_books_balance(store, *loads)


def test_a_file_that_grew_while_another_was_loaded_under_its_source(store: Store, path: Path) -> None:
    """Positions never meet, although the continued file no longer is the newest of its source."""
    path.write_bytes(A)
    rotated = path.with_name("app.log.1")
    loads = [load(store, path)]
    os.rename(path, rotated)
    path.write_bytes(C)
    loads.append(load(store, path))
    rotated.write_bytes(A + B)
    loads.append(load(store, rotated))
    assert sorted(messages(store)) == ["a", "b", "c"]
    assert_books_balance(store, *loads)


@pytest.mark.parametrize("cut", [1, 2, len(B) // 2, len(B) - 2, len(B) - 1])
def test_T7_a_json_line_cut_anywhere_becomes_one_event(store: Store, path: Path, cut: int) -> None:
    path.write_bytes(A + B[:cut])
    first = load(store, path)
    assert (first.logs, first.rejected) == ((2, 0) if cut == len(B) - 1 else (1, 1))
    path.write_bytes(A + B + C)
    second = load(store, path)
    assert (second.lines, second.logs, second.bytes) == (2, 2, len(B + C))
    assert rows(store, "message, event_id") == [
        (text, f"{path}:{position:015d}") for text, position in (("a", 0), ("b", len(A)), ("c", len(A + B)))
    ]
    assert store.manifest.dead_letters() == []
    assert load(store, path) == Books()


def test_T7_a_last_line_that_grows_three_times_is_one_line(store: Store, path: Path) -> None:
    for text in (
        b"2026-11-23 one",
        b"2026-11-23 one two",
        b"2026-11-23 one two three",
        b"2026-11-23 one two three\n",
    ):
        path.write_bytes(A + text)
        assert load(store, path).logs <= 2
        assert messages(store)[0] == "a"
        assert len(messages(store)) == 2
    assert messages(store)[1].endswith("one two three")


def test_T7_a_last_line_that_only_gets_its_newline_is_the_same_event(store: Store, path: Path) -> None:
    path.write_bytes(A + B[:-1])
    load(store, path)
    before = rows(store)
    path.write_bytes(A + B)
    load(store, path)
    assert rows(store) == before
    assert load(store, path) == Books()


def test_T7_an_unterminated_line_with_an_id_of_its_own_does_not_duplicate_itself(
    store: Store, path: Path
) -> None:
    line = log("own", event_id="0123456789abcdef0123")
    path.write_bytes(line[:-1])
    load(store, path)
    path.write_bytes(line + B)
    second = load(store, path)
    assert (second.logs, second.duplicates) == (2, 0)
    assert set(ids(store)) == {"0123456789abcdef0123", f"{path}:{len(line):015d}"}


@pytest.mark.parametrize("tail", [b"\r", HALF, B[:-1]])
def test_T7_two_files_that_went_on_differently_after_the_same_tail(
    store: Store, path: Path, tail: bytes
) -> None:
    path.write_bytes(A + tail)
    load(store, path)
    other = path.with_name("other.log")
    other.write_bytes(A + tail + b'x"}\n')
    load(store, other)
    path.write_bytes(A + tail + b'y"}\n' + C)
    load(store, path)
    assert len(ids(store)) + len(store.manifest.dead_letters()) == 4  # a, two ends of the tail, c
    assert {"a", "c"} <= set(messages(store))


def test_an_empty_file_adds_nothing_and_may_grow(store: Store, path: Path) -> None:
    path.write_bytes(b"")
    assert load(store, path) == Books()
    path.write_bytes(A)
    assert load(store, path).logs == 1


def test_one_unterminated_line(store: Store, path: Path) -> None:
    path.write_bytes(A[:-1])
    loads = [load(store, path), load(store, path)]
    assert [books.lines for books in loads] == [1, 0]
    assert_books_balance(store, *loads)


def test_a_rewritten_file_is_new_content_with_ids_of_its_own(store: Store, path: Path) -> None:
    loads = []
    for content in (A + B, C + A, A, B + B):
        path.write_bytes(content)
        loads.append(load(store, path))
    assert [books.lines for books in loads] == [2, 2, 1, 2]
    assert len(ids(store)) == 7
    assert {row[0] for row in rows(store, "source")} == {str(path)}
    assert_books_balance(store, *loads)


def test_an_older_copy_of_a_file_is_other_bytes(store: Store, path: Path) -> None:
    """A file is known by length and SHA-256 of what was loaded; a prefix of it has neither."""
    path.write_bytes(A + B)
    older = path.with_name("older.log")
    older.write_bytes(A)
    loads = [load(store, path), load(store, older), load(store, older), load(store, path)]
    assert [books.lines for books in loads] == [2, 1, 0, 0]
    assert_books_balance(store, *loads)


def test_an_older_copy_is_known_where_a_load_ended(store: Store, path: Path) -> None:
    path.write_bytes(A)
    loads = [load(store, path)]
    path.write_bytes(A + B)
    older = path.with_name("older.log")
    older.write_bytes(A)
    loads += [load(store, path), load(store, older)]
    assert [books.lines for books in loads] == [1, 1, 0]
    assert_books_balance(store, *loads)


def test_two_files_of_one_name_in_two_folders(store: Store, tmp_path: Path) -> None:
    loads = []
    for folder, line in (("x", A), ("y", B)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "app.log").write_bytes(line)
        loads.append(load(store, tmp_path / folder / "app.log"))
    assert ids(store) == [f"{tmp_path}/{folder}/app.log:{0:015d}" for folder in "xy"]
    assert_books_balance(store, *loads)


def test_several_files_under_one_source_name(store: Store, path: Path) -> None:
    other = path.with_name("other.log")
    path.write_bytes(A)
    other.write_bytes(B)
    loads = [load(store, path, source="web"), load(store, other, source="web")]
    assert ids(store) == [f"web:{position:015d}" for position in (0, len(A))]
    assert_books_balance(store, *loads)


BOM = b"\xef\xbb\xbf"


def test_a_byte_order_mark_is_stripped_at_the_start_of_each_file_only(store: Store, path: Path) -> None:
    path.write_bytes(BOM + A + BOM + B)
    loads = [load(store, path)]
    path.write_bytes(BOM + C)  # rewritten: it starts anew, in the middle of its source
    loads.append(load(store, path))
    assert messages(store) == ["a", "c"]
    (letter,) = store.manifest.dead_letters()
    assert (letter.reason, letter.position, letter.line) == (
        "byte_order_mark",
        len(BOM + A),
        (BOM + B)[:-1],
    )
    assert_books_balance(store, *loads)


def test_crlf(store: Store, path: Path) -> None:
    path.write_bytes(A.replace(b"\n", b"\r\n") + b"\r\n" + b"plain\r\n" + request().replace(b"\n", b"\r\n"))
    books = load(store, path)
    assert (books.logs, books.blank, books.events) == (2, 1, {"api.request": 1})
    assert messages(store) == ["a", "plain"]


def test_a_name_that_is_no_unicode(store: Store, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.log"))
    path.write_bytes(A)
    assert load(store, path).logs == 1
    assert ids(store) == [f"{tmp_path}/caf\\xe9.log:{0:015d}"]


def test_a_name_with_quotes(store: Store, tmp_path: Path) -> None:
    path = tmp_path / 'it\'s "x" $1 {}.log'
    path.write_bytes(A + b"text\n")
    assert load(store, path).logs == 2
    assert rows(store, "DISTINCT source") == [(str(path),)]


COMPRESSED = {
    "gzip": gzip.compress(A),
    "bzip2": bz2.compress(A),
    "xz": lzma.compress(A),
    "zstd": b"\x28\xb5\x2f\xfdx",
}


@pytest.mark.parametrize("name", COMPRESSED)
def test_a_compressed_file_is_refused_with_the_command_that_reads_it(
    store: Store, path: Path, name: str
) -> None:
    path.write_bytes(COMPRESSED[name])
    with pytest.raises(TocsinError, match=rf"is compressed \({name}\): `\w+cat .*app.log \| tocsin ingest -"):
        load(store, path)


def test_text_that_begins_like_a_magic_number_is_text(store: Store, path: Path) -> None:
    path.write_bytes(b"BZ-1234 is fixed\n")
    assert load(store, path).logs == 1


def test_what_is_no_regular_file_is_refused_at_once(store: Store, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(TocsinError, match="is no regular file: pipe it instead"):
        load(store, fifo)
    with pytest.raises(TocsinError, match="is a directory: name the files in it"):
        load(store, tmp_path)
    with pytest.raises(TocsinError, match="No such file or directory; check the path"):
        load(store, tmp_path / "absent")


def test_a_file_that_shrinks_while_it_is_read_is_not_loaded_at_all(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_bytes(A * 10)
    read = os.pread
    monkeypatch.setattr("tocsin_server.sources.files.CHUNK_BYTES", len(A) * 3)
    monkeypatch.setattr(os, "pread", lambda fd, size, at: b"" if at >= len(A) * 6 else read(fd, size, at))
    with pytest.raises(TocsinError, match="became shorter while it was read: nothing of it was loaded"):
        load(store, path)
    monkeypatch.setattr(os, "pread", read)
    assert rows(store) == []
    books = load(store, path)
    assert books.logs == 10
    assert_books_balance(store, books)


def test_a_file_that_grows_while_it_is_read_is_loaded_up_to_where_it_was(store: Store, path: Path) -> None:
    path.write_bytes(A + HALF)

    def clock_that_writes() -> int:
        with path.open("ab") as file:
            file.write(b'age":"b"}\n' + C)
        return CLOCK()

    with store.writing():
        first = load_file(store, path, clock_that_writes, Options())
    assert (first.logs, first.rejected) == (1, 1)
    assert load(store, path).logs == 2
    assert messages(store) == ["a", "b", "c"]


def test_T9_a_huge_line_is_a_dead_letter_of_its_beginning_and_the_next_one_is_fine(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    huge = b'{"message":"' + b"x" * (3 * MAX_LINE_BYTES)
    path.write_bytes(A + huge + b"\n" + B)
    for chunk_bytes in (32 << 20, 100_000):  # in one block, and over many
        monkeypatch.setattr("tocsin_server.sources.files.CHUNK_BYTES", chunk_bytes)
        folder = path.with_name(f"data-{chunk_bytes}")
        fresh = Store.create(folder)
        books = load(fresh, path)
        assert (books.logs, books.rejected, books.bytes) == (2, 1, path.stat().st_size)
        assert rows(fresh, "message, event_id") == [
            ("a", f"{path}:{0:015d}"),
            ("b", f"{path}:{len(A) + len(huge) + 1:015d}"),
        ]
        assert fresh.manifest.dead_letters() == [
            DeadLetter(str(path), len(A), "too_long", CLOCK(), huge[:KEPT_BYTES])
        ]
        fresh.close()


def test_T9_a_line_cut_at_a_carriage_return_is_still_too_long(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tocsin_server.sources.files.CHUNK_BYTES", 1 << 18)
    start = b'{"message":"'
    line = start + b"x" * (MAX_LINE_BYTES - len(start) - 2) + b'"}'
    path.write_bytes(line + b"\r" + b"forged" * 100_000 + b"\n" + line + b"\r\n")
    books = load(store, path)
    assert (books.rejected, books.logs) == (1, 1)


LINES = st.sampled_from(
    [
        A,
        B,
        log("no time", at=None),
        request(),
        request(500, at="2026-11-24T00:00:00.000Z"),
        b"plain text\n",
        b"\n",
        b" \r\n",
        HALF + b"\n",
        b"[1]\n",
        "caf\u00e9 \u2028 text\n".encode(),
        b"\xff\xfe broken\n",
        b'{"message":"\x00"}\n',
        log("twice", event_id="0123456789abcdef"),
    ]
)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(LINES, min_size=1, max_size=25), st.lists(st.integers(0, 2500), max_size=3))
def test_D18_a_file_loaded_in_any_steps_is_the_file_loaded_at_once(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], steps: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("steps")
    path, data = folder / "app.log", A + b"".join(lines)  # a time before the lines that have none
    results = []
    for name, ends in (("once", [len(data)]), ("steps", [*sorted(steps), len(data)])):
        store = Store.create(folder / name)
        for end in ends:
            path.write_bytes(data[:end])
            load(store, path)
            assert load(store, path) == Books()
        letters = sorted((one.position, one.reason, one.line) for one in store.manifest.dead_letters())
        results.append((rows(store), letters))
        ids(store)
        store.close()
    assert results[0] == results[1]


def test_a_file_that_a_server_follows_adds_nothing(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    path.write_bytes(log("a"))
    with path.open("rb") as file:
        reader = Reader(file.fileno(), path.stat().st_size)
        point = reader.checkpoint(str(path), str(path))
    with store.manifest.transaction():
        store.manifest.set_checkpoint("1:2", point.as_row())
    assert load(store, path).lines == 0
    with path.open("ab") as file:
        file.write(log("b"))
    with pytest.raises(TocsinError, match="is followed by `tocsin up`, which has read"):
        load(store, path)
