"""The parts of the platform as the overview shows them: one row, one card. An open set.

An area is known by the event that it prints; the card says when it was last heard, how much it did and how
much of that failed, or its newest gauge.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import duckdb

from tocsin.events import EVENTS
from tocsin.line import encode
from tocsin_server.query import number_sql
from tocsin_server.web.params import TimeRange
from tocsin_server.web.wording import number_text

Gauge = Callable[[duckdb.DuckDBPyConnection, TimeRange], str]


def _queue_depth(connection: duckdb.DuckDBPyConnection, span: TimeRange) -> str:
    """Waiting jobs: the newest sample of each queue, added up."""
    newest = f"SELECT arg_max({number_sql('depth')}, ts) AS depth FROM events {_IN_SPAN} GROUP BY queue"
    row = connection.execute(f"SELECT sum(depth) FROM ({newest})", _bound("job.queue", span)).fetchone()
    return "" if row is None or row[0] is None else f"{number_text(round(row[0]))} waiting"


def _disk_share(connection: duckdb.DuckDBPyConnection, span: TimeRange) -> str:
    """Used share of the fullest volume, by its newest sample."""
    share = f"{number_sql('used_bytes')} / nullif({number_sql('capacity_bytes')}, 0)"
    newest = f"SELECT arg_max({share}, ts) AS share FROM events {_IN_SPAN} GROUP BY attrs->>'$.volume'"
    row = connection.execute(f"SELECT max(share) FROM ({newest})", _bound("db.disk", span)).fetchone()
    return "" if row is None or row[0] is None else f"{100 * row[0]:.0f} % full"


_IN_SPAN = "WHERE name = ? AND ts > make_timestamptz(?) AND ts <= make_timestamptz(?)"


def _bound(name: str, span: TimeRange) -> list[str | int]:
    return [name, span.from_us, span.to_us]


@dataclass(frozen=True, slots=True)
class Area:
    """``failed``: the ``status`` that counts as failure; ``gauge``: a key figure instead of counts."""

    title: str
    event: str
    unit: str
    failed: str = "error"
    gauge: Gauge | None = None


AREAS = (
    Area("Core", "api.request", "requests"),
    Area("Jobs", "job.completed", "jobs"),
    Area("Queue", "job.queue", "samples", gauge=_queue_depth),
    Area("AI gateway", "ai.request", "requests"),
    Area("Health checks", "health.check", "checks", failed="failure"),
    Area("Sync", "sync.run", "runs"),
    Area("Logins", "auth.login", "logins", failed="failure"),
    Area("Database", "db.disk", "samples", gauge=_disk_share),
)


def example_line(event: str) -> str:
    """The line that would fill a panel, to copy."""
    kind = EVENTS[event]
    record = {
        "metric": event,
        "fields": dict(kind.example),
        "timestamp": "2026-11-23T07:55:12.345Z",
        "service": "k12-ai-gateway" if kind.flat else "k12-core",
        "environment": "production",
    }
    return encode(record).decode().rstrip("\n")
