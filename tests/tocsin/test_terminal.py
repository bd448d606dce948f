"""Text mode: one line for a person, whatever a value holds."""

from __future__ import annotations

import io
import re
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.terminal import text_line, wants_colour

STAMP = "2026-11-23T07:55:12.345Z"


def log_record(message: str = "roster is empty", level: str = "WARNING", **fields: Any) -> dict[str, Any]:
    return {"timestamp": STAMP, "level": level, "message": message, "fields": fields, "service": "k12-core"}


def test_a_log_line() -> None:
    line = text_line(log_record(course_id=7, reason="no such term"), colour=False)
    assert line == '07:55:12.345 WARNING  roster is empty course_id=7 reason="no such term"'


def test_a_metric_event() -> None:
    record = {"timestamp": STAMP, "metric": "job.queue", "fields": {"queue": "default", "depth": 3}}
    assert text_line(record, colour=False) == "07:55:12.345 METRIC   job.queue queue=default depth=3"


def test_values_of_every_kind() -> None:
    line = text_line(log_record("", a=None, b=True, c=1.5, d=["x", 1], e={"f": "ü"}, g=""), colour=False)
    assert line.endswith(' a=null b=true c=1.5 d=["x", 1] e={"f": "ü"} g=""')


def test_a_value_cannot_pass_for_another_field() -> None:
    line = text_line(log_record("", reason='x" status=ok', **{"a b=c": 1}), colour=False)
    assert line.endswith(r' reason="x\" status=ok" "a b=c"=1')


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "TRACE"])
def test_colours_are_closed_and_change_nothing_else(level: str) -> None:
    record = log_record(level=level, course_id=7)
    coloured = text_line(record, colour=True)
    assert coloured.count("\x1b[0m") * 2 == coloured.count("\x1b")
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == text_line(record, colour=False)


def test_control_characters_are_shown() -> None:
    line = text_line(log_record("a\r\n\x1b[2Jb", path="c\x07\u202ed"), colour=False)
    assert r"a\r\n\x1b[2Jb" in line
    assert r"c\u0007\u202ed" in line


@given(st.text(), st.text(), st.text(), st.recursive(st.text(), st.lists, max_leaves=3))
def test_S8_no_value_moves_the_cursor_or_makes_a_line(
    message: str, level: str, key: str, value: object
) -> None:
    record = {"timestamp": STAMP, "level": level, "message": message, "fields": {key: value}}
    line = text_line(record, colour=False)
    assert line.isprintable()
    assert line.encode()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colours_only_on_a_terminal_that_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert wants_colour()
    assert "\x1b" in text_line(log_record())
    monkeypatch.setenv("TERM", "dumb")
    assert not wants_colour()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_colour()
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert not wants_colour()
    sys.stdout.close()
    assert not wants_colour()
    monkeypatch.setattr(sys, "stdout", None)
    assert not wants_colour()
