"""Reading a folder of runbooks (row I18 of the reliability bar: ids and paths)."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from writing import GOOD, changed

from tocsin_server.runbook.load import check_runbooks, load_runbooks


def write(folder: Path, name: str, text: str = GOOD) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def messages(folder: Path) -> list[str]:
    return [f"{Path(fault.file).name}:{fault.line}: {fault.message}" for fault in load_runbooks(folder)[1]]


def test_runbooks_by_id(tmp_path: Path) -> None:
    path = write(tmp_path, "SYNC_FAILURE.md")
    write(tmp_path, "notes.txt", "no runbook")
    runbooks, faults = load_runbooks(tmp_path)
    assert faults == []
    assert list(runbooks) == ["sync-failure"]
    assert runbooks["sync-failure"].file == str(path)


def test_a_runbook_with_faults_is_left_out_and_the_others_stay(tmp_path: Path) -> None:
    write(tmp_path, "SYNC_FAILURE.md")
    write(tmp_path, "OTHER.md", changed("id: sync-failure", "id: other").replace("rows=50", "rows=x"))
    runbooks, faults = load_runbooks(tmp_path)
    assert list(runbooks) == ["sync-failure"]
    assert [Path(fault.file).name for fault in faults] == ["OTHER.md"]


def test_I18_an_id_is_the_files_name(tmp_path: Path) -> None:
    write(tmp_path, "OTHER.md")
    assert messages(tmp_path) == ["OTHER.md:3: the id `sync-failure` is not the file's name"]
    assert load_runbooks(tmp_path)[0] == {}


def test_I18_two_files_with_one_id(tmp_path: Path) -> None:
    write(tmp_path, "SYNC_FAILURE.md")
    write(tmp_path, "sync-failure.md")
    assert messages(tmp_path) == ["sync-failure.md:3: duplicate id `sync-failure`"]


def test_I18_links_and_folders_are_no_runbooks(tmp_path: Path) -> None:
    folder = tmp_path / "runbooks"
    folder.mkdir()
    (folder / "SYNC_FAILURE.md").symlink_to(write(tmp_path, "elsewhere.md"))
    (folder / "folder.md").mkdir()
    assert load_runbooks(folder)[0] == {}
    assert messages(folder) == [
        "SYNC_FAILURE.md:1: is not a regular file of this folder",
        "folder.md:1: is not a regular file of this folder",
    ]


def test_what_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "BYTES.md").write_bytes(b"\xff\xfe")
    (tmp_path / "LONG.md").write_bytes(b"a" * 900_000)
    assert messages(tmp_path) == [
        "BYTES.md:1: byte 0 is not UTF-8",
        "LONG.md:1: has more than 200,000 characters",
    ]
    assert "cannot be read" in str(load_runbooks(tmp_path / "missing")[1])


def test_check_reports_all_faults_of_all_runbooks(tmp_path: Path) -> None:
    write(tmp_path, "SYNC_FAILURE.md", changed("rows=50 ", "rows=x "))
    found = check_runbooks(tmp_path, {}, None, date(2026, 3, 1))
    assert [fault.message.partition(" ")[0] for fault in found] == ["no", "block"]
    assert found == sorted(found)
