"""Definitions of a running server: read again when they change, and never replaced by faulty ones."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tocsin_server.definitions import Definitions
from tocsin_server.errors import FaultsError
from tocsin_server.resources import runbooks

RULE = "alerts:\n  - {alert: One, severity: info, when: {count: {event: x, above: 1, over: 5m}}}\n"


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    rules, books = tmp_path / "alerts", tmp_path / "runbooks"
    rules.mkdir()
    (rules / "a.yaml").write_text(RULE)
    shutil.copytree(runbooks(), books)
    return rules, books


def change(path: Path, text: str) -> None:
    path.write_text(text)
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 1_000_000))


def names(definitions: Definitions) -> list[str]:
    return [rule.alert for rule in definitions.catalogue.rules]


def test_a_change_is_taken(folders: tuple[Path, Path]) -> None:
    definitions = Definitions(*folders)
    assert definitions.refresh() is False
    change(folders[0] / "a.yaml", RULE.replace("One", "Two"))
    assert definitions.refresh() is True
    assert names(definitions) == ["Two"]


def test_a_fault_keeps_what_was_loaded_and_is_shown_until_corrected(folders: tuple[Path, Path]) -> None:
    definitions = Definitions(*folders)
    change(folders[0] / "a.yaml", "alerts: [\n")
    definitions.refresh()
    assert names(definitions) == ["One"]
    assert definitions.faults
    change(folders[0] / "a.yaml", RULE)
    definitions.refresh()
    assert definitions.faults == []


def test_a_runbook_with_a_fault_keeps_its_last_sound_version(folders: tuple[Path, Path]) -> None:
    definitions = Definitions(*folders)
    before = definitions.runbooks["sync-failure"]
    path = folders[1] / "SYNC_FAILURE.md"
    change(path, path.read_text().replace("runbook: 1", "runbook: one"))
    definitions.refresh()
    assert definitions.runbooks["sync-failure"] is before
    assert any("SYNC_FAILURE.md" in fault.file for fault in definitions.faults)


def test_a_runbook_that_is_removed_is_gone(folders: tuple[Path, Path]) -> None:
    definitions = Definitions(*folders)
    (folders[1] / "JOB_QUEUE.md").unlink()
    definitions.refresh()
    assert "job-queue" not in definitions.runbooks


def test_it_does_not_start_with_faulty_rules(folders: tuple[Path, Path]) -> None:
    change(folders[0] / "a.yaml", "alerts: [\n")
    with pytest.raises(FaultsError):
        Definitions(*folders)


def test_it_starts_with_the_files_that_are_sound(folders: tuple[Path, Path]) -> None:
    (folders[0] / "b.yaml").write_text("alerts: [\n")
    definitions = Definitions(*folders)
    assert names(definitions) == ["One"]
    assert [Path(fault.file).name for fault in definitions.faults] == ["b.yaml"]
