"""Rows A2.1 to A2.14 of the conformance table: SlowResponses."""

from __future__ import annotations

import pytest
from histories import SECOND, changes, connect, every, requests, rules

from tocsin_server.evaluate import advance, due
from tocsin_server.query import Grid
from tocsin_server.rules import check_rules, load_rules

NEVER: list[tuple[str, float]] = []


def traffic(
    step: float, start: float, end: float, slow: float = 5000, of: int = 1, every_nth: int = 1, **fields
):
    """Requests each ``step`` s; ``of`` in each ``every_nth`` take ``slow`` ms, the others 100 ms."""
    for i, event in enumerate(every(step, start, end, "api.request", http_status=200, **fields)):
        yield {**event, "duration_ms": slow if i % every_nth < of else 100.0}


CASES = {
    "A2.1": (traffic(3, 600, 1200, of=1, every_nth=20), NEVER),
    "A2.2": (
        traffic(3, 600, 1800, of=2, every_nth=20),
        [("pending", 660), ("firing", 960), ("resolved", 2100)],
    ),
    "A2.3 2000 ms": (traffic(1, 600, 1200, slow=2000), NEVER),
    "A2.3 2001 ms": (traffic(1, 600, 660, slow=2001), [("pending", 630), ("inactive", 720)]),
    "A2.4": (traffic(1, 600, 870), [("pending", 630), ("inactive", 930)]),
    "A2.5": (traffic(1, 600, 900), [("pending", 630), ("firing", 930), ("resolved", 1260)]),
    "A2.6": (
        [*traffic(1, 600, 840), *traffic(1, 840, 960, slow=100), *traffic(1, 960, 1200)],
        [("pending", 630), ("inactive", 900), ("pending", 990), ("inactive", 1260)],
    ),
    "A2.7 one window with 19 requests": (
        [*traffic(1, 601, 751), *traffic(1, 792, 1200)],
        [("pending", 630), ("inactive", 810), ("pending", 840), ("firing", 1140), ("resolved", 1560)],
    ),
    "A2.8": (traffic(3, 600, 1800, slow=60_000, of=1, every_nth=20), NEVER),
    "A2.9": (traffic(3, 600, 1800, slow=60_000, streaming=True), NEVER),
    "A2.9 route": (traffic(3, 600, 1800, slow=60_000, route="/api/v1/ai/stream"), NEVER),
    "A2.9 controller": (traffic(3, 600, 1800, slow=60_000, controller="api/v1/ai_invocations"), NEVER),
    "A2.12": (
        traffic(0.6, 600, 1500, slow=2400, of=6, every_nth=100),
        [("pending", 630), ("firing", 930), ("resolved", 1830)],
    ),
    "A2.13": (traffic(1, 600, 1500, slow=1100), NEVER),
}


@pytest.mark.parametrize(("events", "expected"), CASES.values(), ids=CASES)
def test_slow_responses(events, expected):
    assert changes(events, "SlowResponses", end=3000) == expected


@pytest.mark.parametrize("row", ["A2.10"])
def test_instants_missed_while_down_are_caught_up(row):
    connection, states, found = connect(traffic(1, 600, 1500)), {}, []
    running = [second for second in range(600, 1200, 30) if not 750 <= second < 810]
    last = None
    for second in running:
        grid, skipped = due(last, second * SECOND)
        assert not skipped
        result = advance(connection, rules("SlowResponses"), states, grid)
        states, last = result.states, grid.to_us
        found += [(t.to, t.at / SECOND) for t in result.transitions]
    assert found == [("pending", 630), ("firing", 930)]


@pytest.mark.parametrize("row", ["A2.11"])
def test_a_failing_query_freezes_the_pending_clock(row):
    connection, states, found = connect(traffic(1, 600, 1500)), {}, []
    for second in range(600, 1200, 30):
        broken = second in (720, 750)
        if broken:
            connection.execute("ALTER TABLE events RENAME TO unreachable")
        result = advance(connection, rules("SlowResponses"), states, Grid(second * SECOND, second * SECOND))
        if broken:
            connection.execute("ALTER TABLE unreachable RENAME TO events")
        assert [error.alert for error in result.errors] == (["SlowResponses"] if broken else [])
        states = result.states
        found += [(t.to, t.at / SECOND) for t in result.transitions]
    assert found == [("pending", 630), ("firing", 990)]


USELESS = """
alerts:
  - alert: SlowFiveMinutes
    severity: warning
    when:
      fraction:
        event: api.request
        of: duration_ms
        bound: 2000
        above: 5%
        over: 5m
        min_total: 20
    for: 5m
"""


@pytest.mark.parametrize("row", ["A2.14"])
def test_a_window_as_long_as_for_fires_on_a_burst_and_is_refused(row, tmp_path):
    useless = tmp_path / "useless.yaml"
    useless.write_text(USELESS)
    faults = check_rules([useless])
    assert [(fault.line, "useless" in fault.message) for fault in faults] == [(13, True)]
    shorter = tmp_path / "shorter.yaml"
    shorter.write_text(USELESS.replace("for: 5m", "for: 5m30s"))
    (rule,) = load_rules([shorter])
    burst = connect(
        [*requests(60, start=601, duration_ms=9000.0), *requests(60, start=631, duration_ms=9000.0)]
    )
    variant = rule.model_copy(update={"for_us": 300 * SECOND})
    result = advance(burst, [variant], {}, Grid(600 * SECOND, 1200 * SECOND))
    assert "firing" in [t.to for t in result.transitions]
