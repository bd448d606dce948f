"""Histories of events for the tests of rules, evaluation and backtest.

An event is a dict: ``t`` (seconds since the epoch) or ``ts`` (microseconds), ``name``, and any field; fields
that are no column go to ``attrs``. As in the store, an event whose ``event_id`` was seen before is dropped.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import duckdb

from tocsin_server.columns import COLUMNS, CREATE_EVENTS
from tocsin_server.evaluate import State, Transition, advance
from tocsin_server.query import STEP_US, Grid
from tocsin_server.rules import Rule, load_rules

SECOND = 1_000_000
ALERTS = Path(__file__).parents[2] / "ops" / "alerts"
Event = dict[str, Any]

_SHAPE = {
    name: {"TIMESTAMPTZ": "BIGINT", "JSON": "VARCHAR"}.get(kind, kind) for name, kind in COLUMNS.items()
}
_READ = {"TIMESTAMPTZ": 'make_timestamptz("{}")', "JSON": 'CAST("{}" AS JSON)'}
_COLUMNS = ", ".join(_READ.get(kind, '"{}"').format(name) for name, kind in COLUMNS.items())
_INSERT = (
    f"INSERT INTO events SELECT {_COLUMNS} "
    f"FROM (SELECT unnest(from_json(?, '{json.dumps([_SHAPE])}'), recursive := true))"
)


@functools.cache
def catalogue() -> tuple[Rule, ...]:
    """The shipped rules."""
    return tuple(load_rules([ALERTS]))


def rules(*names: str) -> list[Rule]:
    """Shipped rules by name."""
    return [next(rule for rule in catalogue() if rule.alert == name) for name in names]


def connect(events: Iterable[Event] = ()) -> duckdb.DuckDBPyConnection:
    """A fresh database with these events."""
    connection = duckdb.connect()
    connection.execute("SET threads = 1")
    connection.execute(CREATE_EVENTS)
    insert(connection, events)
    return connection


def insert(connection: duckdb.DuckDBPyConnection, events: Iterable[Event]) -> None:
    """Adds events."""
    rows = {row["event_id"]: row for row in (_row(i, event) for i, event in enumerate(events))}
    if rows:
        connection.execute(_INSERT, [json.dumps(list(rows.values()))])


def _row(index: int, event: Event) -> dict[str, Any]:
    event = dict(event)
    ts = event.pop("ts", None)
    ts = round(event.pop("t") * SECOND) if ts is None else ts
    row = {"ts": ts, "received_at": ts, "event_id": f"history:{index:012d}"}
    row |= {name: value for name, value in event.items() if name in COLUMNS}
    attrs = {name: value for name, value in event.items() if name not in COLUMNS}
    return {**row, "attrs": json.dumps(attrs)}


# --- events ---------------------------------------------------------------------------------------------

WHERE = {"service": "k12-core", "environment": "production"}


def at(times: Iterable[float], name: str, **fields: Any) -> Iterator[Event]:
    """One event at each time."""
    for t in times:
        yield {"t": t, "name": name, **WHERE, **fields}


def every(step: float, start: float, end: float, name: str, **fields: Any) -> Iterator[Event]:
    """Events at start, start + step, … below end."""
    count = max(0, round((end - start) / step))
    return at((start + i * step for i in range(count)), name, **fields)


def requests(count: int, start: float = 601, status: int = 200, **fields: Any) -> Iterator[Event]:
    """``count`` requests within 28 s of ``start``: inside one bucket when it starts on second 1."""
    return at(
        (start + 28 * i / max(count, 1) for i in range(count)),
        "api.request",
        **{"http_status": status, "duration_ms": 40.0, **fields},
    )


# --- evaluation -----------------------------------------------------------------------------------------


def transitions(
    events: Iterable[Event], *alerts: str, start: float | None = None, end: float, step: int = 64
) -> list[Transition]:
    """Transitions of these alerts over a history, ``step`` instants per query."""
    connection = connect(events)
    if start is None:
        row = connection.execute("SELECT min(epoch_us(ts)) FROM events").fetchone()
        start = row[0] // STEP_US * 30 if row else 0
    found: list[Transition] = []
    states: dict[Any, State] = {}
    for grid in Grid(round(start * SECOND), round(end * SECOND)).chunks(step):
        result = advance(connection, rules(*alerts), states, grid)
        assert not result.errors
        states = result.states
        found += result.transitions
    return found


def changes(
    events: Iterable[Event], alert: str, *, end: float = 8000, **kwargs: Any
) -> list[tuple[str, float]]:
    """(new state, time in seconds) of every transition of one alert."""
    return [(t.to, t.at / SECOND) for t in transitions(events, alert, end=end, **kwargs)]
