"""The manifest: all or nothing, one format, and what it answers (rows D1, D14, D16)."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path

import pytest

from tocsin_server.errors import TocsinError
from tocsin_server.store.manifest import (
    DEAD_LETTER_US,
    FORMAT_VERSION,
    Content,
    DeadLetter,
    Manifest,
    SealedFile,
)

FILE = SealedFile("day=2026-11-23/a.parquet", 3, 100, 10, 20, 1)
LETTER = DeadLetter("app", 7, "malformed", 1000, b'{"\xff\x00')


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "manifest.db"


def test_what_is_written_is_there_after_opening_again(path: Path) -> None:
    manifest = Manifest(path)
    with manifest.transaction():
        number = manifest.begin_content("app", 5, 1)
        manifest.add_file(number, FILE)
        manifest.add_dead_letters(number, [LETTER])
        manifest.finish_content(Content(number, "app", 5, 9, b"h", b"s", 2), {"lines": 4})
        manifest.set_source("app", 14, 20)
        manifest.add_sealed_segment("x")
        key = manifest.pseudonym_key("7")
    manifest.close()
    manifest.close()
    again = Manifest(path)
    assert again.files() == [FILE]
    assert again.contents() == [Content(number, "app", 5, 9, b"h", b"s", 2)]
    assert again.dead_letters() == [LETTER]
    assert again.source("app") == (14, 20)
    assert again.source("other") == (0, None)
    assert again.sealed_segments() == {"x"}
    assert again.pseudonym_key("7") == key
    again.close()


def test_D1_a_transaction_that_fails_never_happened(path: Path) -> None:
    manifest = Manifest(path)

    def interrupted() -> None:
        with manifest.transaction():
            manifest.add_file(manifest.begin_content("app", 0, 1), FILE)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert manifest.files() == []
    with manifest.transaction():
        manifest.set_source("app", 1, None)
    assert manifest.source("app") == (1, None)
    manifest.close()


def test_D6_a_transaction_that_sqlite_rolled_back_itself_says_why(path: Path) -> None:
    manifest = Manifest(path)
    pages = manifest._db.execute("PRAGMA page_count").fetchone()[0]
    manifest._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(sqlite3.OperationalError, match="full"), manifest.transaction():
        manifest.add_dead_letters(1, [DeadLetter("app", 0, "malformed", 0, bytes(100_000))])
    manifest._db.execute("PRAGMA max_page_count = 100000")
    with manifest.transaction():
        manifest.add_dead_letters(1, [LETTER])
    assert manifest.dead_letters() == [LETTER]
    manifest.close()


def test_a_reader_sees_the_last_transaction(path: Path) -> None:
    writer, reader = Manifest(path), Manifest(path)
    with writer.transaction():
        writer.add_file(1, FILE)
        assert reader.files() == []
    assert reader.files() == [FILE]
    writer.close()
    reader.close()


def test_D16_a_newer_format_is_refused_and_left_alone(path: Path) -> None:
    Manifest(path).close()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {FORMAT_VERSION + 1}")
    db.close()
    before = path.read_bytes()
    with pytest.raises(TocsinError, match=r"has format 3, this Tocsin reads up to 2: install a newer"):
        Manifest(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", [b"", b"not a database, but long enough to be looked at" * 100])
def test_D5_a_manifest_that_is_no_database_is_said_to_be_damaged(path: Path, damage: bytes) -> None:
    if damage:
        path.write_bytes(damage)
        with pytest.raises(
            TocsinError, match=r"manifest.db cannot be read \(file is not a database\): move the"
        ):
            Manifest(path)
        assert path.read_bytes() == damage
    else:  # created by a process that was killed at once
        path.touch()
        Manifest(path).close()


def test_every_file_of_the_manifest_is_for_its_owner_only(path: Path) -> None:
    before = os.umask(0)
    try:
        manifest = Manifest(path)
        with manifest.transaction():
            manifest.set_source("app", 1, None)
        modes = {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
        manifest.close()
    finally:
        os.umask(before)
    assert modes == {0o600}


def test_a_content_that_is_being_loaded_is_not_known(path: Path) -> None:
    manifest = Manifest(path)
    manifest.begin_content("app", 0, 1)
    assert manifest.contents() == []
    manifest.close()


def test_contents_come_shortest_first_and_of_one_source(path: Path) -> None:
    manifest = Manifest(path)
    for length, source in ((5, "a"), (3, "b"), (9, "a"), (1, "a")):
        number = manifest.begin_content(source, 0, 1)
        manifest.finish_content(Content(number, source, 0, length, b"", b"", 0), {})
    assert [one.length for one in manifest.contents()] == [1, 3, 5, 9]
    assert [one.length for one in manifest.contents(up_to=5, source="a")] == [1, 5]
    manifest.close()


def test_T7_removing_a_tail_removes_its_event_and_its_dead_letter_and_nothing_else(path: Path) -> None:
    manifest = Manifest(path)
    number = manifest.begin_content("app", 100, 1)
    tail = SealedFile("day=2026-11-23/b.parquet", 1, 1, 1, 1, 0, is_tail=True)
    for file in (FILE, tail):
        manifest.add_file(number, file)
    letters = [DeadLetter("app", position, "malformed", 1, b"") for position in (100, 119, 120)]
    manifest.add_dead_letters(number, letters)
    other = manifest.begin_content("app", 130, 1)
    manifest.add_dead_letters(other, [DeadLetter("app", 130, "malformed", 1, b"")])
    manifest.finish_content(Content(number, "app", 100, 30, b"", b"", 10), {})
    manifest.remove_tail(number)
    assert manifest.files() == [FILE]
    assert [one.position for one in manifest.dead_letters()] == [130, 119, 100]
    manifest.close()


def test_dead_letters_are_kept_for_seven_days(path: Path) -> None:
    manifest = Manifest(path)
    manifest.add_dead_letters(1, [LETTER])
    assert manifest.expire_dead_letters(1000 + DEAD_LETTER_US) == 0
    assert manifest.expire_dead_letters(1001 + DEAD_LETTER_US) == 1
    assert manifest.dead_letters() == []
    manifest.close()


def test_each_tenant_has_a_key_of_its_own(path: Path) -> None:
    manifest = Manifest(path)
    keys = [manifest.pseudonym_key(tenant) for tenant in ("1", "2", None, "1")]
    assert len(set(keys)) == 3
    assert keys[0] == keys[3]
    assert {len(key) for key in keys} == {32}
    manifest.close()


def test_D16_an_older_format_is_brought_up_to_date(path: Path) -> None:
    Manifest(path).close()
    with sqlite3.connect(path) as db:  # as format 1 was
        for table in ("checkpoint", "batch_key"):
            db.execute(f"DROP TABLE {table}")
        db.execute("ALTER TABLE file DROP COLUMN received_at")
        db.execute("INSERT INTO file VALUES ('day=2026-11-23/a.parquet', 1, 0, 3, 100, 10, 20, 1)")
        db.execute("PRAGMA user_version = 1")
    db.close()
    manifest = Manifest(path)
    assert manifest.files() == [FILE]
    assert manifest.checkpoints() == {}
    assert manifest.batch_answer("k") is None
    manifest.close()
