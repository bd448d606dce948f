"""Rows A1.1 to A1.16 of the conformance table: HighErrorRate."""

from __future__ import annotations

import itertools
import json

import pytest
from histories import WHERE, at, changes, connect, every, insert, requests, rules, transitions

from tocsin_server.clock import SECOND_US
from tocsin_server.evaluate import State, advance
from tocsin_server.query import Grid

NEVER: list[tuple[str, float]] = []
ONCE = [("firing", 630), ("resolved", 1050)]


def steady(start: float, end: float, status: int = 200):
    return every(0.1, start, end, "api.request", http_status=status)


def blip(seconds: float):
    return [*steady(0, 600), *steady(600, 600 + seconds, 500), *steady(600 + seconds, 2000)]


CASES = {
    "A1.1": ([*requests(95), *requests(5, status=500)], NEVER),
    "A1.2": ([*requests(94), *requests(6, status=500)], ONCE),
    "A1.3 3 of 3": (requests(3, status=500), NEVER),
    "A1.3 19 of 19": (requests(19, status=500), NEVER),
    "A1.4 4 bad": ([*requests(16), *requests(4, status=500)], NEVER),
    "A1.4 5 bad": ([*requests(15), *requests(5, status=500)], ONCE),
    "A1.5": ([*steady(0, 600), *steady(600, 900, 503)], [("firing", 630), ("resolved", 1320)]),
    "A1.6 15 s": (blip(15), NEVER),
    "A1.6 16 s": (blip(16), ONCE),
    "A1.7 429": ([*requests(500), *requests(500, status=429)], NEVER),
    "A1.7 401": ([*requests(500), *requests(500, status=401)], NEVER),
    "A1.8 probe": ([*requests(30, status=500), *requests(1000, probe=True)], ONCE),
    "A1.8 path": ([*requests(30, status=500), *requests(1000, path="/up")], ONCE),
    "A1.8 route": ([*requests(30, status=500), *requests(1000, route="/v1/health")], ONCE),
    "A1.8 controller": ([*requests(30, status=500), *requests(1000, controller="rails/health")], ONCE),
    "A1.9": ([*requests(75), *requests(25, status=500, error="NoMethodError")], ONCE),
    "A1.12 at T - 300 excluded, at T included": (
        at([600] * 20, "api.request", http_status=500),
        [("firing", 600), ("resolved", 1020)],
    ),
    "A1.13": (
        [*requests(30, status=500), *requests(30, start=965, status=500)],
        [("firing", 630), ("resolved", 1410)],
    ),
}


@pytest.mark.parametrize(("events", "expected"), CASES.values(), ids=CASES)
def test_high_error_rate(events, expected):
    assert changes(events, "HighErrorRate", end=2000) == expected


@pytest.mark.parametrize("row", ["A1.10"])
def test_lines_delivered_twice_count_once(row):
    once = [*requests(95), *requests(5, status=500)]
    ids = [{**event, "event_id": f"line-{i:012d}"} for i, event in enumerate(once)]
    assert changes([*ids, *ids], "HighErrorRate", end=2000) == NEVER


@pytest.mark.parametrize(
    ("arrive", "expected"),
    [(4, [("firing", 870), ("resolved", 1050)]), (6, NEVER)],
    ids=["A1.11 4 min late", "A1.11 6 min late"],
)
def test_late_events_count_while_their_window_is_open(arrive, expected):
    connection, late = connect(requests(94)), 630 + arrive * 60
    states: dict[tuple[str, tuple[tuple[str, str], ...]], State] = {}
    found = []
    for second in range(600, 2000, 30):
        if second == late:
            insert(
                connection,
                [{**event, "event_id": f"late {i}"} for i, event in enumerate(requests(6, status=500))],
            )
        result = advance(
            connection, rules("HighErrorRate"), states, Grid(second * SECOND_US, second * SECOND_US)
        )
        states = result.states
        found += [(t.to, t.at / SECOND_US) for t in result.transitions]
    assert found == expected


@pytest.mark.parametrize("row", ["A1.14 heartbeats fresh"])
def test_no_requests_with_heartbeats_resolves(row):
    history = [*requests(30, status=500), *every(60, 600, 4800, "log.heartbeat")]
    assert changes(history, "HighErrorRate", end=4800) == ONCE


@pytest.mark.parametrize("row", ["A1.14 heartbeats missing"])
def test_no_requests_without_heartbeats_is_unknown(row):
    history = [*requests(30, status=500), *at([600], "log.heartbeat")]
    found = transitions(history, "HighErrorRate", "LogsMissing", end=4800)
    assert [(t.alert, t.to, t.at / SECOND_US) for t in found] == [
        ("HighErrorRate", "firing", 630),
        ("LogsMissing", "firing", 810),
    ]


@pytest.mark.parametrize("row", ["A1.15"])
def test_restart_while_firing_makes_no_transition(row):
    connection = connect(steady(600, 1200, 500))
    before = advance(connection, rules("HighErrorRate"), {}, Grid(600 * SECOND_US, 900 * SECOND_US))
    stored = json.dumps([state.as_row() for state in before.states.values()])
    states = [State.from_row(row) for row in json.loads(stored)]
    restored = {(state.alert, state.labels): state for state in states}
    assert restored == before.states
    after = advance(connection, rules("HighErrorRate"), restored, Grid(930 * SECOND_US, 1200 * SECOND_US))
    assert [t.to for t in before.transitions] == ["firing"]
    assert after.transitions == []
    assert [state.fired_at for state in after.states.values()] == [630 * SECOND_US]


@pytest.mark.parametrize("row", ["A1.16"])
def test_one_instance_per_service(row):
    core = itertools.chain(requests(90), requests(10, status=502))
    gateway = requests(100, service="k12-ai-gateway")
    found = transitions([*core, *gateway], "HighErrorRate", end=900)
    assert [dict(t.labels) for t in found] == [WHERE]
    assert found[0].value == 0.1
