"""Answers for people, programs and spreadsheets: hostile cells are harmless in all of them (rows I11,
I14)."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

from tocsin_server.export.rows import as_csv, as_json, as_table, iso_time
from tocsin_server.sql import Result
from tocsin_server.visible import visible

HOSTILE = "\x1b[31m\x07\u202eevil\u200b\ufeff\u2028\x9b2J\x00\r\nFAKE [red]line[/red]"
INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def one(value: Any, kind: str = "VARCHAR", name: str = "v") -> Result:
    return Result([name], [kind], [(value,)], False)


def shown(result: Result) -> str:
    console = Console(file=io.StringIO(), width=200, force_terminal=False)
    console.print(as_table(result))
    return console.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO above


def parsed(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


def dangerous(text: str) -> set[str]:
    return {c for c in text if unicodedata.category(c) in INVISIBLE} - {"\n", "\r"}


def test_i11_table_shows_controls_as_escapes_and_no_markup() -> None:
    text = shown(one(HOSTILE, name=HOSTILE))
    assert not dangerous(text)
    assert r"\x1b[31m\x07\u202eevil\u200b\ufeff\u2028\x9b2J\x00\r\nFAKE [red]line[/red]" in text


def test_i11_csv_and_json_hold_no_raw_controls() -> None:
    assert not dangerous(as_csv(one(HOSTILE)))
    assert as_json(one(HOSTILE)).isascii()
    assert json.loads(as_json(one(HOSTILE))) == [{"v": HOSTILE}]


@given(st.text())
def test_i11_visible_leaves_nothing_invisible(text: str) -> None:
    assert not {c for c in visible(text) if unicodedata.category(c) in INVISIBLE}


@given(st.text(st.characters(blacklist_categories=sorted(INVISIBLE))))
def test_visible_leaves_ordinary_text_alone(text: str) -> None:
    assert visible(text) == text


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r"])
def test_i14_formula_cells_get_a_quote(first: str) -> None:
    ((header,), (cell,)) = parsed(as_csv(one(f"{first}cmd|' /C calc'!A0", name=f"{first}x")))
    assert cell.startswith("'" + visible(first))
    assert header.startswith("'" + visible(first))


@pytest.mark.parametrize(("number", "text"), [(-1, "-1"), (-0.5, "-0.5"), (Decimal("-1.50"), "-1.5")])
def test_i14_numbers_are_exempt(number: object, text: str) -> None:
    assert parsed(as_csv(one(number, "DOUBLE")))[1] == [text]


TEXTS = st.text(max_size=20) | st.sampled_from(
    ["=1+1", "+a", "-a", "@a", "\ta", "\ra", '"', ",", "a\r\nb", "'", ""]
)


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=20))
@example([("=1", '"\n,'), ("\x00", "\ud800")])
def test_i14_csv_round_trip(rows: list[tuple[Any, ...]]) -> None:
    text = as_csv(Result(["a", "b"], ["VARCHAR"] * 2, rows, False))
    header, *cells = parsed(text)
    assert header == ["a", "b"]
    assert len(cells) == len(rows)
    for row, got in zip(rows, cells, strict=True):
        for raw, cell in zip(row, got, strict=True):
            assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
            assert cell in (visible(raw), "'" + visible(raw))
    assert all(line.startswith('"') and line.endswith('"') for line in text.split("\r\n") if line)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.datetimes() | st.dates()
    | st.decimals(allow_nan=False) | st.binary() | st.timedeltas() | st.uuids() | st.times(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@given(VALUES)
def test_every_value_can_be_shown_everywhere(value: Any) -> None:
    result = one(value, "ANY")
    assert isinstance(json.loads(as_json(result), parse_constant=pytest.fail), list)
    assert len(parsed(as_csv(result))) == 2
    assert as_table(result).row_count == 1


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (datetime(2026, 11, 23, 7, 55, 12, tzinfo=UTC), "2026-11-23T07:55:12.000Z"),
        (datetime(2026, 11, 23, 7, 55, 12, 345000, tzinfo=UTC), "2026-11-23T07:55:12.345Z"),
        (datetime(2026, 11, 23, 7, 55, 12, 345678, tzinfo=UTC), "2026-11-23T07:55:12.345678Z"),
        (datetime(2026, 11, 23, 7, 55, 12, 345000), "2026-11-23T07:55:12.345"),
    ],
)
def test_times(moment: datetime, text: str) -> None:
    assert iso_time(moment) == text
    assert json.loads(as_json(one(moment))) == [{"v": text}]
    assert parsed(as_csv(one(moment)))[1] == [text]


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ('{"a": [1, {"b": null}]}', "JSON", {"a": [1, {"b": None}]}),
        ("not json", "JSON", "not json"),
        ([datetime(2026, 11, 23, tzinfo=UTC)], "TIMESTAMP WITH TIME ZONE[]", ["2026-11-23T00:00:00.000Z"]),
        ("[1]", "VARCHAR", "[1]"),
        (float("nan"), "DOUBLE", None),
        (Decimal("1.5"), "DECIMAL(18,3)", 1.5),
        (2**100, "HUGEINT", 2**100),
        (b"\x00\xff", "BLOB", "00ff"),
        (date(2026, 1, 2), "DATE", "2026-01-02"),
        (timedelta(minutes=1), "INTERVAL", "60 s"),
        ({1: "x"}, "MAP(INTEGER, VARCHAR)", {"1": "x"}),
        ((1, 2), "INTEGER[2]", [1, 2]),
    ],
)
def test_json_values(value: Any, kind: str, expected: Any) -> None:
    assert json.loads(as_json(one(value, kind))) == [{"v": expected}]


def test_table_says_that_it_was_cut() -> None:
    assert "… more rows" in shown(Result(["n"], ["INTEGER"], [(1,)], True))
    assert "(99500 more characters)" in shown(one("x" * 100_000))


def test_null_is_empty() -> None:
    assert parsed(as_csv(one(None)))[1] == [""]
    assert json.loads(as_json(one(None))) == [{"v": None}]
