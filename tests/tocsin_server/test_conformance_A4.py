"""Rows A4.1 to A4.13 of the conformance table: AIGatewayDown."""

from __future__ import annotations

import pytest
from histories import SECOND, at, changes, connect, rules, transitions

from tocsin_server.query import Grid
from tocsin_server.rules.readings import Presence, Source, Truth

NEVER: list[tuple[str, float]] = []


def checks(pattern: str, start: float = 600, step: float = 30, target: str = "ai-gateway", **fields):
    """One result each ``step`` s: S success, F failure."""
    for i, letter in enumerate(pattern):
        status = "success" if letter == "S" else "failure"
        yield from at([start + i * step], "health.check", target=target, status=status, **fields)


CASES = {
    "A4.1": (checks("SFF"), NEVER),
    "A4.2": (checks("SFFF"), [("firing", 690)]),
    "A4.3": (checks("FFS" * 20), NEVER),
    "A4.4": (checks("FFF", reason="degraded", http_status=200), [("firing", 660)]),
    "A4.5": (checks("FFF", reason="http_401", http_status=401), [("firing", 660)]),
    "A4.7": (checks("SSFFFFSFFFFSSSSSS"), [("firing", 720), ("resolved", 1050)]),
    "A4.8": (checks("SSFFFSSSSS"), [("firing", 720), ("resolved", 870)]),
    "A4.11": (checks("SFFF", step=60), [("firing", 780)]),
}
CASES |= {
    f"A4.9 {reason}": (checks("FFF", reason=reason), [("firing", 660)])
    for reason in ("timeout", "dns", "tls", "http_302")
}


@pytest.mark.parametrize(("events", "expected"), CASES.values(), ids=CASES)
def test_ai_gateway_down(events, expected):
    assert changes(events, "AIGatewayDown", end=2400) == expected


@pytest.mark.parametrize("row", ["A4.6"])
def test_prober_stops_while_healthy(row):
    connection = connect(checks("SSSSS"))
    grid = Grid(600 * SECOND, 1200 * SECOND)
    (rule,) = rules("AIGatewayDown")
    labels = (("environment", "production"), ("service", "k12-core"), ("target", "ai-gateway"))
    source = Source(connection, grid, Presence(connection, grid), frozenset([labels]))
    (readings,) = rule.condition.readings(source, rule.by, None)
    unknown_from = next(i for i in range(len(grid)) if readings.truth[i] == Truth.UNKNOWN)
    assert grid.instants()[unknown_from] / SECOND == 720 + 150
    found = transitions(checks("SSSSS"), "AIGatewayDown", "SignalMissing", end=1200)
    assert [(t.alert, t.at / SECOND) for t in found] == [("SignalMissing", 720 + 300)]


@pytest.mark.parametrize("row", ["A4.10"])
def test_one_result_delivered_three_times_is_one_result(row):
    once = [{**event, "event_id": "probe-result-0001"} for event in checks("F")]
    assert changes([*once, *once, *once], "AIGatewayDown", end=1200) == NEVER


@pytest.mark.parametrize("row", ["A4.12"])
def test_one_of_two_targets(row):
    history = [*checks("SFFF", target="ai-gateway-eu"), *checks("SSSS", target="ai-gateway-us")]
    found = transitions(history, "AIGatewayDown", end=690)
    assert [dict(t.labels)["target"] for t in found] == ["ai-gateway-eu"]


def test_other_targets_are_not_the_gateway():
    assert changes(checks("FFFF", target="core"), "AIGatewayDown", end=1200) == NEVER


@pytest.mark.parametrize("row", ["A4.13"])
def test_provider_errors_are_another_alert(row):
    calls = at(range(601, 629, 2), "ai.request", status="error", error_source="provider", provider="openai")
    found = transitions([*checks("SSSSS"), *calls], "AIGatewayDown", "AIProviderErrors", end=720)
    assert [(t.alert, t.to) for t in found] == [("AIProviderErrors", "firing")]
