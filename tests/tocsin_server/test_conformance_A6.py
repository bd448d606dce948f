"""Rows A6.1 to A6.11 of the conformance table: DiskUsage."""

from __future__ import annotations

import pytest
from histories import SECOND, at, changes, every, transitions

NEVER: list[tuple[str, float]] = []
FULL = 1_000_000_000_000


def disk(percent: float, start: float, end: float, step: float = 60, volume: str = "main", **fields):
    """Samples from ``start`` through ``end``."""
    fields = {"used_bytes": round(percent * FULL / 100), "capacity_bytes": FULL, **fields}
    return every(step, start, end + step, "db.disk", volume=volume, **fields)


UNTIL = 3000
FIRING = [("pending", 600), ("firing", 900)]
CASES = {
    "A6.1": (disk(80, 600, UNTIL), NEVER),
    "A6.2": (disk(80.1, 600, UNTIL), FIRING),
    "A6.3": (
        [*disk(85, 600, 840, step=30), *disk(50, 870, UNTIL, step=30)],
        [("pending", 600), ("inactive", 870)],
    ),
    "A6.4 capacity 0": (disk(85, 600, UNTIL, capacity_bytes=0), NEVER),
    "A6.4 capacity missing": (disk(85, 600, UNTIL, capacity_bytes=None), NEVER),
    "A6.4 while firing": ([*disk(85, 600, 1200), *disk(85, 1260, UNTIL, capacity_bytes=0)], FIRING),
    "A6.5": ([*disk(85, 600, 1200), *disk(8500, 1260, UNTIL)], FIRING),
    "A6.6": (
        [*disk(79.9, 600, UNTIL, step=120), *disk(80.1, 660, UNTIL, step=120)],
        [(to, 660 + 60 * i) for i, to in enumerate(["pending", "inactive"] * 20)],
    ),
    "A6.7": ([*disk(90, 600, 1200), *disk(50, 1260, UNTIL)], [*FIRING, ("resolved", 2160)]),
    "A6.10": ([*disk(85, 600, 1200), *disk(85, 1260, UNTIL)], FIRING),
}


@pytest.mark.parametrize(("events", "expected"), CASES.values(), ids=CASES)
def test_disk_usage(events, expected):
    assert changes(events, "DiskUsage", end=UNTIL) == expected


@pytest.mark.parametrize("row", ["A6.8"])
def test_one_of_two_volumes(row):
    history = [*disk(85, 600, 1200, volume="main"), *disk(20, 600, 1200, volume="wal")]
    found = transitions(history, "DiskUsage", end=1200)
    assert {dict(t.labels)["volume"] for t in found} == {"main"}


@pytest.mark.parametrize("row", ["A6.9"])
def test_silent_sampler_keeps_firing(row):
    found = transitions([*disk(85, 600, 1200), *disk(85, 1560, 2400)], "DiskUsage", "SignalMissing", end=2400)
    assert [(t.alert, t.to, t.at / SECOND) for t in found] == [
        ("DiskUsage", "pending", 600),
        ("DiskUsage", "firing", 900),
        ("SignalMissing", "firing", 1500),
        ("SignalMissing", "resolved", 1560),
    ]


@pytest.mark.parametrize("row", ["A6.11"])
def test_almost_full_is_a_second_rule(row):
    found = transitions(disk(99.5, 600, 1200), "DiskUsage", "DiskAlmostFull", end=1200)
    assert {t.alert for t in found if t.to == "firing"} == {"DiskUsage", "DiskAlmostFull"}


def test_petabytes_are_compared_exactly():
    capacity = 10**15
    history = at([600], "db.disk", volume="main", used_bytes=8 * 10**14, capacity_bytes=capacity)
    assert changes(history, "DiskUsage", end=700) == NEVER
    history = at([600], "db.disk", volume="main", used_bytes=8 * 10**14 + 1, capacity_bytes=capacity)
    assert changes(history, "DiskUsage", end=700) == [("pending", 600)]
