"""Rows A7.1 to A7.12 of the conformance table: AuthFailures."""

from __future__ import annotations

from fractions import Fraction

import pytest
from histories import SECOND, at, changes, connect, every, rules, transitions

from tocsin_server.evaluate import advance
from tocsin_server.query import Grid

NEVER: list[tuple[str, float]] = []


def logins(count: int, start: float = 601, status: str = "failure", **fields):
    """``count`` logins within 28 s."""
    return at((start + 28 * i / count for i in range(count)), "auth.login", status=status, **fields)


CASES = {
    "A7.1 20": (logins(20), NEVER),
    "A7.1 21": (logins(21), [("firing", 630), ("resolved", 1230)]),
    "A7.2": (every(360 / 21, 600, 960, "auth.login", status="failure"), NEVER),
    "A7.3": (
        [*logins(10, provider="google"), *logins(11, provider="saml")],
        [("firing", 630), ("resolved", 1230)],
    ),
    "A7.4": ([*logins(21), *logins(5000, status="success")], [("firing", 630), ("resolved", 1230)]),
    "A7.6": (logins(21, reason="tenant_not_found"), [("firing", 630), ("resolved", 1230)]),
    "A7.7": (
        every(12, 600, 1200, "auth.login", status="failure", client_network="h_1f"),
        [("firing", 840), ("resolved", 1560)],
    ),
    "A7.9": (logins(21, start=1), [("firing", 30), ("resolved", 630)]),
    "A7.10": (logins(17), NEVER),
    "A7.11": ([*every(60, 600, 3600, "log.heartbeat"), *at([600], "auth.login", status="success")], NEVER),
}


@pytest.mark.parametrize(("events", "expected"), CASES.values(), ids=CASES)
def test_auth_failures(events, expected):
    assert changes(events, "AuthFailures", end=3600) == expected


@pytest.mark.parametrize("row", ["A7.4 with min_ratio"])
def test_min_ratio(row):
    (rule,) = rules("AuthFailures")
    condition = rule.condition.model_copy(update={"min_ratio": Fraction(1, 10)})
    strict = rule.model_copy(update={"when": rule.when.model_copy(update={"count": condition})})
    grid = Grid(600 * SECOND, 900 * SECOND)
    many = connect([*logins(21), *logins(5000, status="success")])
    assert advance(many, [strict], {}, grid).transitions == []
    few = connect([*logins(21), *logins(100, status="success")])
    assert [t.to for t in advance(few, [strict], {}, grid).transitions] == ["firing"]


@pytest.mark.parametrize("row", ["A7.5"])
def test_cancelled_and_throttled_are_no_failures(row):
    history = [*logins(100, status="cancelled"), *logins(100, status="throttled")]
    found = transitions(history, "AuthFailures", "AuthThrottled", end=900)
    assert [(t.alert, t.to) for t in found] == [("AuthThrottled", "firing")]


@pytest.mark.parametrize("row", ["A7.8"])
def test_lines_shipped_twice_count_once(row):
    once = [{**event, "event_id": f"login-{i:012d}"} for i, event in enumerate(logins(11))]
    assert changes([*once, *once], "AuthFailures", end=900) == NEVER


@pytest.mark.parametrize("row", ["A7.12"])
def test_labels_hold_no_personal_data(row):
    history = logins(21, user_id="u_3fa94c0d1b7e8a25", email="alice@example.org", client_network="h_1f")
    (fired,) = transitions(history, "AuthFailures", end=700)
    assert fired.labels == (("environment", "production"),)
