"""``tocsin init``: a starter that is sound, and that never overwrites what is yours."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from tocsin_server.check import check_paths
from tocsin_server.errors import TocsinError
from tocsin_server.starter import write


def test_the_starter_has_no_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = list(write(tmp_path))
    assert tmp_path / "tocsin.yaml" in written
    monkeypatch.chdir(tmp_path)
    assert check_paths(None, date(2026, 11, 23)) == []


def test_what_is_there_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "tocsin.yaml").write_text("data: ./mine\n")
    assert tmp_path / "tocsin.yaml" not in list(write(tmp_path))
    assert (tmp_path / "tocsin.yaml").read_text() == "data: ./mine\n"
    with pytest.raises(TocsinError, match="are there already"):
        list(write(tmp_path))
