"""Rows A5.1 to A5.13 of the conformance table: SyncFailures."""

from __future__ import annotations

import itertools

import pytest
from histories import SECOND, at, changes, connect, rules, transitions

from tocsin_server.evaluate import advance
from tocsin_server.query import Grid

NEVER: list[tuple[str, float]] = []
_ids = itertools.count()


def runs(times, status: str = "error", run_id: str | None = None, provider: str = "oneroster", **fields):
    """One run each, with its own run_id unless one is given."""
    for t in times:
        fields["run_id"] = run_id or f"run-{next(_ids)}"
        yield from at([t], "sync.run", status=status, provider=provider, **fields)


CASES = {
    "A5.1": (runs(range(601, 606)), NEVER),
    "A5.2": (runs(range(601, 607)), [("firing", 630), ("resolved", 4230)]),
    "A5.3": (runs(range(600, 4261, 732)), NEVER),
    "A5.4": (runs([600, 615, 631, 662, 758, 1029, 1669]), [("firing", 1050), ("resolved", 4230)]),
    "A5.5": (runs(range(600, 3601, 600)), [("firing", 3600), ("resolved", 4200)]),
    "A5.6": (runs(range(600, 800, 10), status="partial"), NEVER),
    "A5.7": (
        runs(range(601, 607), records_processed=9, records_failed=9),
        [("firing", 630), ("resolved", 4230)],
    ),
    "A5.8": ([*runs(range(601, 605)), *runs([605, 606], run_id="same")], NEVER),
    "A5.9": (
        [*runs([601, 602, 603], provider="google_classroom"), *runs([604, 605, 606])],
        [("firing", 630), ("resolved", 4230)],
    ),
    "A5.10": (runs(range(601, 607), status="running"), NEVER),
    "A5.12": (runs([7001] * 6), [("firing", 7020)]),
    "A5.13": (runs(range(600, 90_000, 3600)), NEVER),
}


@pytest.mark.parametrize(("events", "expected"), CASES.values(), ids=CASES)
def test_sync_failures(events, expected):
    events = list(events)
    assert changes(events, "SyncFailures", end=max(8000, events[-1]["t"])) == expected


@pytest.mark.parametrize("row", ["A5.9 labels"])
def test_one_instance_per_environment(row):
    (fired, _) = transitions(runs(range(601, 607)), "SyncFailures", end=8000)
    assert fired.labels == (("environment", "production"),)
    assert fired.value == 6


@pytest.mark.parametrize("row", ["A5.11"])
def test_yesterdays_log_does_not_alert_today(row):
    connection = connect(runs(range(600, 1100, 10)))
    today = Grid(87_000 * SECOND, 90_000 * SECOND)
    assert advance(connection, rules("SyncFailures"), {}, today).transitions == []


def test_a_run_without_run_id_counts_by_itself():
    history = list(at(range(601, 607), "sync.run", status="error"))
    assert changes(history, "SyncFailures", end=630) == [("firing", 630)]
