"""Silences: matching as in Alertmanager, states, and the audit log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from tocsin_server.errors import TocsinError
from tocsin_server.state import State
from tocsin_server.state.silences import (
    Matcher,
    add,
    expire,
    first_match,
    holds,
    listing,
    parse_matcher,
    silenced,
    status,
)
from tocsin_server.state.tables import AuditEntry, Silence

SECOND = 1_000_000
LABELS = {"alertname": "HighErrorRate", "severity": "critical", "service": "k12-core"}
CORE = [Matcher("service", "=", "k12-core")]


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    opened = State.in_folder(tmp_path)
    yield opened
    opened.close()


def added(state: State, matchers: list[Matcher] = CORE, start: int = 100, end: int = 200) -> int:
    with state.transaction() as session:
        return add(session, matchers, start * SECOND, end * SECOND, "Alice", "deploy", 100 * SECOND).id


# --- matching -------------------------------------------------------------------------------------------

HOLDS = {
    "service=k12-core": True,
    "service=k12": False,
    "service!=k12-web": True,
    "service=~k12": False,
    "service=~k12-.*": True,
    'service=~"k12-(core|web)"': True,
    "service!~k12-.*": False,
    "service!~web": True,
    "volume=": True,
    "volume!=": False,
    "volume=~.*": True,
    "volume=~.+": False,
    "volume!~a": True,
    "service =~ (?i)K12-CORE": True,
}


@pytest.mark.parametrize(("text", "expected"), HOLDS.items())
def test_matchers_are_anchored_and_a_missing_label_is_empty(text: str, expected: bool) -> None:
    assert holds(parse_matcher(text), LABELS) is expected


@pytest.mark.parametrize("text", ["", "service", "=x", "1a=b", "a b=c", "service>1"])
def test_what_is_no_matcher(text: str) -> None:
    with pytest.raises(TocsinError, match="is no matcher: write service=k12-core"):
        parse_matcher(text)


@given(st.text(max_size=20), st.text(max_size=20))
def test_operators_are_opposites(wanted: str, value: str) -> None:
    labels = {"a": value}
    assert holds(Matcher("a", "=", wanted), labels) is (value == wanted)
    assert holds(Matcher("a", "=", wanted), labels) is not holds(Matcher("a", "!=", wanted), labels)


@given(st.sampled_from(["=", "!=", "=~", "!~"]), st.text(max_size=10))
def test_a_matcher_reads_back_as_it_is_written(operator: str, value: str) -> None:
    assert parse_matcher(str(Matcher("a", operator, value))) == Matcher("a", operator, value)


def test_no_expression_takes_long() -> None:
    began = time.perf_counter()
    assert not holds(Matcher("a", "=~", "(a+)+$"), {"a": "a" * 5000 + "b"})
    assert time.perf_counter() - began < 1


def test_every_matcher_must_hold() -> None:
    both = [*CORE, Matcher("severity", "=", "warning")]
    silence = Silence(matchers=[matcher._asdict() for matcher in both])
    assert first_match([silence], LABELS) is None
    assert first_match([silence], {**LABELS, "severity": "warning"}) is silence


# --- times ----------------------------------------------------------------------------------------------


def test_a_silence_is_active_from_its_start_up_to_its_end(state: State) -> None:
    added(state, start=120)
    with state.reading() as session:
        found = {t: silenced(session, LABELS, t * SECOND) is not None for t in (119, 120, 199, 200)}
        silence = session.scalars(select(Silence)).one()
        states = [status(silence, t * SECOND) for t in (119, 120, 200)]
    assert found == {119: False, 120: True, 199: True, 200: False}
    assert states == ["pending", "active", "expired"]


def test_the_silence_that_ends_last_is_named(state: State) -> None:
    added(state, end=150)
    longest = added(state, end=300)
    added(state, end=200)
    with state.reading() as session:
        found = silenced(session, LABELS, 110 * SECOND)
        assert found is not None
        assert found.id == longest
        assert silenced(session, {"service": "web"}, 110 * SECOND) is None


# --- changing -------------------------------------------------------------------------------------------


def test_listing_shows_what_is_not_over(state: State) -> None:
    added(state)
    added(state, [parse_matcher('alertname=~"High.*"')], start=500, end=600)
    with state.reading() as session:
        assert [(row["id"], row["state"]) for row in listing(session, 300 * SECOND)] == [(2, "pending")]
        everything = listing(session, 300 * SECOND, expired=True)
    assert [row["state"] for row in everything] == ["pending", "expired"]
    assert everything[0] == {
        "id": 2,
        "state": "pending",
        "matchers": ['alertname=~"High.*"'],
        "starts_at": "1970-01-01T00:08:20Z",
        "ends_at": "1970-01-01T00:10:00Z",
        "author": "Alice",
        "comment": "deploy",
    }


def test_expire_ends_it_now(state: State) -> None:
    number = added(state)
    with state.transaction() as session:
        expire(session, number, "Bob", 150 * SECOND)
    with state.reading() as session:
        assert silenced(session, LABELS, 150 * SECOND) is None
        audit = [(row.who, row.action) for row in session.scalars(select(AuditEntry))]
    assert audit == [("Alice", "silence.add"), ("Bob", "silence.expire")]
    with state.transaction() as session, pytest.raises(TocsinError, match="ended at 1970-01-01T00:02:30Z"):
        expire(session, number, "Bob", 160 * SECOND)


def test_a_pending_silence_can_be_expired(state: State) -> None:
    number = added(state, start=120)
    with state.transaction() as session:
        assert status(expire(session, number, "Bob", 110 * SECOND), 110 * SECOND) == "expired"


def test_there_is_no_such_silence(state: State) -> None:
    with (
        state.transaction() as session,
        pytest.raises(TocsinError, match="no silence 7: `tocsin silence list`"),
    ):
        expire(session, 7, "Bob", 0)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "nothing named": ({"matchers": []}, "no matcher"),
    "everything": ({"matchers": [Matcher("service", "=~", ".*")]}, "hold for every alert"),
    "bad expression": ({"matchers": [Matcher("service", "=~", "(")]}, r"`\(` is no regular expression"),
    "bad operator": ({"matchers": [Matcher("service", ">", "1")]}, "is no operator"),
    "too long": ({"matchers": [Matcher("service", "=", "x" * 501)]}, "longer than 500"),
    "too many": ({"matchers": CORE * 21}, "21 matchers, at most 20"),
    "backwards": ({"starts_at": 200, "ends_at": 100}, "ends before it starts"),
    "over": ({"ends_at": 50, "starts_at": 10}, "ended already"),
    "no author": ({"author": ""}, "author is missing"),
    "all at once": ({"author": "", "comment": "", "matchers": []}, "matcher.*author.*comment"),
}


@pytest.mark.parametrize(("change", "message"), WRONG.values(), ids=WRONG)
def test_what_is_refused(state: State, change: dict[str, Any], message: str) -> None:
    good = {"matchers": CORE, "starts_at": 100, "ends_at": 200, "author": "Alice", "comment": "x"}
    with state.transaction() as session, pytest.raises(TocsinError, match=message):
        add(session, **{**good, **change}, now_us=100)
    with state.reading() as session:
        assert session.scalars(select(AuditEntry)).all() == []
