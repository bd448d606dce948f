"""Rows A3.1 to A3.12 of the conformance table: JobQueueDepth."""

from __future__ import annotations

import pytest
from histories import SECOND, at, changes, connect, every, rules, transitions

from tocsin_server.evaluate import advance, due
from tocsin_server.query import Grid

NEVER: list[tuple[str, float]] = []


def depth(value: float, start: float, end: float, queue: str = "default", **fields):
    """Samples each 30 s from ``start`` through ``end``."""
    return every(30, start, end + 30, "job.queue", queue=queue, depth=value, **fields)


CASES = {
    "A3.1": (depth(100, 600, 2400), NEVER),
    "A3.2": (depth(101, 600, 2400), [("pending", 600), ("firing", 1200)]),
    "A3.3": ([*depth(5000, 600, 1140), *depth(0, 1170, 2400)], [("pending", 600), ("inactive", 1170)]),
    "A3.4": (
        [*depth(150, 600, 1110), *depth(100, 1140, 1140), *depth(150, 1170, 2400)],
        [("pending", 600), ("inactive", 1140), ("pending", 1170), ("firing", 1770)],
    ),
    "A3.5 60 + 41": (
        [*depth(60, 600, 2400), *depth(41, 600, 2400, "mailers")],
        [("pending", 600), ("firing", 1200)],
    ),
    "A3.5 60 + 40": ([*depth(60, 600, 2400), *depth(40, 600, 2400, "mailers")], NEVER),
    "A3.6": (depth(0, 600, 2400, retry=5000), NEVER),
    "A3.7": (
        [*depth(150, 600, 870), *depth(150, 1110, 2400)],
        [("pending", 600), ("firing", 1350)],
    ),
    "A3.10": (
        [
            *depth(150, 600, 1200),
            *every(60, 1230, 2400, "job.queue", queue="default", depth=95),
            *every(60, 1260, 2400, "job.queue", queue="default", depth=105),
        ],
        [("pending", 600), ("firing", 1200)],
    ),
    "A3.11": (
        [*depth(60, 600, 2400), *depth(50, 600, 900, "mailers")],
        [("pending", 600), ("inactive", 990)],
    ),
    "A3.12": (depth(101, 600, 2400, queue="nobody", oldest_age_s=1800), [("pending", 600), ("firing", 1200)]),
}


@pytest.mark.parametrize(("events", "expected"), CASES.values(), ids=CASES)
def test_job_queue_depth(events, expected):
    assert changes(events, "JobQueueDepth", end=2400) == expected


@pytest.mark.parametrize("row", ["A3.8"])
def test_silent_sampler_keeps_firing_and_signal_missing_fires(row):
    found = transitions(depth(150, 600, 1500), "JobQueueDepth", "SignalMissing", end=7200)
    assert [(t.alert, t.to, t.at / SECOND) for t in found] == [
        ("JobQueueDepth", "pending", 600),
        ("JobQueueDepth", "firing", 1200),
        ("SignalMissing", "firing", 1800),
    ]
    assert found[-1].labels == (("signal", "job.queue"),)


@pytest.mark.parametrize(
    ("sampled", "fired"),
    [(depth(150, 600, 2400), 1200), ([*depth(150, 600, 1050), *depth(150, 1380, 2400)], 1440)],
    ids=["A3.9 other sampler", "A3.9 own sampler"],
)
def test_down_while_pending(sampled, fired):
    connection, states, found, last = connect(sampled), {}, [], None
    for second in (s for s in range(600, 2400, 30) if not 1080 <= s < 1380):
        grid, skipped = due(last, second * SECOND)
        assert not skipped
        result = advance(connection, rules("JobQueueDepth"), states, grid)
        states, last = result.states, grid.to_us
        found += [(t.to, t.at / SECOND) for t in result.transitions]
    assert found == [("pending", 600), ("firing", fired)]


def test_newest_sample_is_chosen_by_time_then_id():
    events = [
        *at([610], "job.queue", queue="default", depth=500, event_id="a"),
        *at([610], "job.queue", queue="default", depth=7, event_id="b"),
        *at([605], "job.queue", queue="default", depth=900, event_id="c"),
    ]
    connection = connect(events)
    result = advance(connection, rules("JobQueueDepth"), {}, Grid(630 * SECOND, 690 * SECOND))
    assert result.transitions == []
