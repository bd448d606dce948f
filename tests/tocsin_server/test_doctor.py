"""Which alerts could fire on these lines, and what the others miss."""

from __future__ import annotations

from collections.abc import Iterable

import duckdb
import pytest

from tocsin_server.columns import CREATE_EVENTS
from tocsin_server.doctor import Diagnosis, diagnose
from tocsin_server.load import Books
from tocsin_server.resources import alert_rules
from tocsin_server.rules.load import load_rules

SUCCESS = "('ai.request', 'success', NULL)"
BLAMED = """('ai.request', 'error', '{"error_source": "provider"}')"""
UNBLAMED = "('ai.request', 'error', NULL)"


def diagnosis(rows: Iterable[str]) -> Diagnosis:
    with duckdb.connect() as connection:
        connection.execute(CREATE_EVENTS)
        for row in rows:
            connection.execute(f"INSERT INTO events (name, status, attrs) VALUES {row}")
        return diagnose(connection, Books(), load_rules([alert_rules()]), [])


@pytest.mark.parametrize(
    ("rows", "missing"),
    [
        ([SUCCESS], []),
        ([SUCCESS, BLAMED], []),
        ([SUCCESS, UNBLAMED], ["no ai.request event with status error has the field error_source"]),
        ([], ["no ai.request event; docs/events.md shows its line"]),
    ],
    ids=["only successes", "blamed", "unblamed", "no events"],
)
def test_only_events_that_would_count_must_have_a_field(rows: list[str], missing: list[str]) -> None:
    readiness = diagnosis(rows).alerts["AIProviderErrors"]
    assert (readiness.missing, readiness.ready) == (missing, not missing)


def test_an_event_without_the_field_that_is_compared() -> None:
    missing = diagnosis(["('job.queue', NULL, NULL)"]).alerts["JobQueueDepth"].missing
    assert "no job.queue event has the field depth" in missing
