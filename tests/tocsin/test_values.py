"""Any value becomes plain JSON within limits, and no code of the host runs for it."""

from __future__ import annotations

import enum
import math
import time
from collections import OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.values import BREADTH, STRING_BYTES, plain, plain_fields, text


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@dataclass
class Run:
    records: int
    note: str


class Hostile:
    """Everything that printing could call raises."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise RuntimeError("repr")

    __str__ = __repr__
    __iter__ = __len__ = __bool__ = __hash__ = None


class Relation:
    """As an ORM loads what a row refers to."""

    def __get__(self, instance: object, owner: type) -> Any:
        if instance is None:
            return self
        raise AssertionError("loaded from the database")

    def __set__(self, instance: object, value: object) -> None:
        pass


@dataclass
class Row:
    id: int
    owner: Any = None


Row.owner = Relation()


@dataclass(slots=True)
class Slotted:
    a: int


class Lazy:
    """As Django wraps ``request.user``: asking for its class loads it."""

    @property
    def __class__(self) -> Any:
        raise AssertionError("loaded from the database")


class HostileText(str):
    def __len__(self) -> int:
        raise RuntimeError("len")


class HostileDict(dict[str, int]):
    def items(self) -> Any:
        raise RuntimeError("items")


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        (None, None),
        (True, True),
        (7, 7),
        (2**63 - 1, 2**63 - 1),
        (2**63, str(2**63)),
        (-(2**63) - 1, str(-(2**63) - 1)),
        (10**5000, "<int of 16610 bits>"),
        (1.5, 1.5),
        (math.nan, None),
        (-math.inf, None),
        (Decimal("42.6"), 42.6),
        (Decimal("NaN"), None),
        (Decimal("1e999"), None),
        (Fraction(1, 4), 0.25),
        (UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (datetime(2026, 11, 23, 7, 55, 12, 345678, tzinfo=UTC), "2026-11-23T07:55:12.345Z"),
        (datetime(2026, 11, 23, 7, 55), "2026-11-23T07:55:00.000Z"),
        (datetime(2026, 11, 23, 7, 55, tzinfo=timezone(timedelta(hours=-8))), "2026-11-23T15:55:00.000Z"),
        (date(2026, 11, 23), "2026-11-23"),
        (timedelta(milliseconds=1500), 1.5),
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (b"caf\xc3\xa9 \xff", "café \ufffd"),
        (bytearray(b"x"), "x"),
        ("\ud800x\udfff", "\ufffdx\ufffd"),
        (ValueError("of a student"), "ValueError"),
        (ValueError, "ValueError"),
        (PurePosixPath("/var/log"), "/var/log"),
        ([1, (2, 3)], [1, [2, 3]]),
        ({1: 2, "a": None, None: 3}, {"1": 2, "a": None, "None": 3}),
        ({7}, [7]),
        (deque([1]), [1]),
        (Point(1, 2), [1, 2]),
        (OrderedDict(a=1), {"a": 1}),
        (defaultdict(int, a=1), {"a": 1}),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (Run(3, "x"), {"records": 3, "note": "x"}),
        (Row(3), {"id": 3}),
        (Slotted(3), {"a": 3}),
        (Lazy(), "<unrepr: Lazy>"),
        (Hostile(), "<unrepr: Hostile>"),
        (object(), "<unrepr: object>"),
        (HostileText("x"), "<unrepr: HostileText>"),
        (HostileDict(a=1), "<unrepr: HostileDict>"),
        (complex(1, 2), "<unrepr: complex>"),
        (len, "<unrepr: builtin_function_or_method>"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_value(value: object, printed: object) -> None:
    result = plain(value)
    assert result == printed
    assert orjson.loads(orjson.dumps(result)) == printed


def test_cycles() -> None:
    loop: list[Any] = [1]
    loop.append({"again": loop})
    assert plain(loop) == [1, {"again": "<cycle>"}]


def test_what_is_shared_but_no_cycle_is_printed_twice() -> None:
    shared = [1]
    assert plain([shared, shared]) == [[1], [1]]


def test_depth_ends_at_eight() -> None:
    nested: Any = "x"
    for _ in range(1000):
        nested = [nested]
    printed = orjson.dumps(plain_fields({"nested": nested})).decode()
    assert printed == '{"nested":' + "[" * 7 + '"<too deep>"' + "]" * 7 + "}"


def test_breadth_ends_at_sixty_four_and_says_how_many_are_missing() -> None:
    listed, mapped = plain([0] * 100), plain({str(i): i for i in range(100)})
    assert len(listed) == len(mapped) == BREADTH
    assert listed[-1] == "<37 more>"
    assert mapped["<more>"] == 37
    assert plain([0] * BREADTH) == [0] * BREADTH


def test_a_million_elements_or_a_thousandfold_structure_cost_no_more_than_a_small_one() -> None:
    bomb: Any = "ha"
    for _ in range(8):
        bomb = [bomb] * 64
    started = time.process_time()
    plain(list(range(1_000_000)))
    assert len(orjson.dumps(plain(bomb))) < 64 * 1024
    plain("é" * 50_000_000)
    assert time.process_time() - started < 1.0


def test_text_over_all_fields_is_bounded() -> None:
    printed = plain_fields({str(i): "word " * 1600 for i in range(20)})
    assert sum(len(value) for value in printed.values()) < 80 * 1024
    assert printed["19"] == "<cut>"


def test_generators_are_not_consumed() -> None:
    def rows() -> Iterator[int]:
        yield 1

    generator = rows()
    assert plain(generator) == "<unrepr: generator>"
    assert next(generator) == 1


def test_an_object_is_never_asked_to_print_itself() -> None:
    class Student:
        asked = 0

        def __repr__(self) -> str:
            Student.asked += 1
            return "Maya Lindqvist"

    assert plain([Student()]) == ["<unrepr: Student>"]
    assert Student.asked == 0


@given(st.text(st.characters(), max_size=50).map(lambda chunk: chunk * 400))
def test_text_is_valid_and_bounded(value: str) -> None:
    assert len(text(value).encode()) <= STRING_BYTES


def test_cut_text_ends_between_words() -> None:
    address = "maya.lindqvist@example.org"
    cut = text("x" * (STRING_BYTES - 20) + " " + address)
    assert cut.endswith("x…")
    assert "maya" not in cut


JSON_LIKE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(JSON_LIKE)
def test_whatever_comes_out_is_json(value: object) -> None:
    printed = plain(value)
    assert orjson.loads(orjson.dumps(printed)) == printed
