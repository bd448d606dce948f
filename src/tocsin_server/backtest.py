"""Replays rules over history with the live engine: which alerts would have fired, and when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import duckdb

from tocsin_server.clock import SECOND_US, iso
from tocsin_server.evaluate import Advance, RuleError, Transition, advance
from tocsin_server.query import STEP_US, Grid, Labels
from tocsin_server.rules import Rule
from tocsin_server.rules.readings import SEEN_FOR_US

#: A backtest goes on for this long after the last event, so that what fires can resolve.
AFTER_US = 7200 * SECOND_US
#: Instants per range query: two days, so that a day's log takes one query a rule, and memory stays bounded.
CHUNK = 5760


@dataclass(frozen=True, slots=True)
class Episode:
    """One firing instance. Times in microseconds, UTC; ``resolved_at`` None: still firing at the end."""

    alert: str
    labels: Labels
    pending_at: int
    fired_at: int
    resolved_at: int | None
    value: float | int | None

    def as_json(self) -> dict[str, Any]:
        """The shape of ``tocsin backtest --json``."""
        return {
            "alert": self.alert,
            "labels": dict(self.labels),
            "pending_at": iso(self.pending_at),
            "fired_at": iso(self.fired_at),
            "resolved_at": None if self.resolved_at is None else iso(self.resolved_at),
            "value": self.value,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """What a backtest found; ``from_us`` and ``to_us`` are the first and last instant (None: no events)."""

    from_us: int | None
    to_us: int | None
    evaluations: int
    episodes: list[Episode]
    #: Rules whose query failed, and when; their instances kept their state meanwhile.
    errors: list[RuleError]

    def as_json(self) -> dict[str, Any]:
        """The shape of ``tocsin backtest --json``."""
        return {
            "from": None if self.from_us is None else iso(self.from_us),
            "to": None if self.to_us is None else iso(self.to_us),
            "evaluations": self.evaluations,
            "episodes": [episode.as_json() for episode in self.episodes],
        }


def backtest(
    connection: duckdb.DuckDBPyConnection,
    rules: Sequence[Rule],
    from_us: int | None = None,
    to_us: int | None = None,
    expect: Sequence[str] = (),
    include_meta: bool = False,
) -> Report:
    """Evaluates ``rules`` over the relation ``events``.

    Without ``from_us`` the first instant is the first event's, rounded down to 30 s; without ``to_us`` the
    last is 2 h after the last event. Meta rules are left out unless ``include_meta``. ``expect`` names
    services whose silence is an alert. Times in microseconds, UTC.
    """
    chosen = [rule for rule in rules if include_meta or not rule.meta]
    grid = _grid(connection, from_us, to_us)
    if grid is None:
        return Report(None, None, 0, [], [])
    now, transitions, errors = Advance({}), list[Transition](), list[RuleError]()
    for chunk in _chunks(connection, chosen, grid):
        now = advance(connection, chosen, now.states, chunk, expect)
        transitions += now.transitions
        errors += now.errors
    return Report(grid.from_us, grid.to_us, len(grid) * len(chosen), _episodes(transitions), errors)


def _chunks(connection: duckdb.DuckDBPyConnection, rules: Sequence[Rule], grid: Grid) -> Iterator[Grid]:
    """The grid in pieces, without the pieces that no event can reach.

    One line with a wrong year makes a history of decades. When the last event is further back than every
    window, the 24 h in which a label set is remembered and the times of the state machine, nothing changes
    any more.
    """
    span = CHUNK * grid.step_us
    reach = _reach(rules)
    if reach is None or grid.to_us - grid.from_us <= reach:
        yield from grid.chunks(CHUNK)
        return
    rows = connection.execute(
        "SELECT DISTINCT (epoch_us(ts) - ?) // ? FROM events", [grid.from_us, span]
    ).fetchall()
    reached = {piece + later for (piece,) in rows for later in range(-(-reach // span) + 1)}
    for piece in sorted({0, *reached}):
        start = grid.from_us + piece * span
        if grid.from_us <= start <= grid.to_us:
            yield Grid(start, min(start + span - grid.step_us, grid.to_us), grid.step_us)


def _reach(rules: Sequence[Rule]) -> int | None:
    """Longest time (µs) for which an event can still matter to one of the rules; None: for ever."""
    reaches = [0]
    for rule in rules:
        lookback = rule.condition.lookback_us
        if lookback is None:
            return None
        reaches.append(lookback + SEEN_FOR_US + rule.for_us + rule.keep_us)
    return max(reaches)


def _grid(connection: duckdb.DuckDBPyConnection, from_us: int | None, to_us: int | None) -> Grid | None:
    row = connection.execute("SELECT epoch_us(min(ts)), epoch_us(max(ts)) FROM events").fetchone()
    first, last = row or (None, None)
    if first is None:
        return None
    start = first // STEP_US * STEP_US if from_us is None else -(-from_us // STEP_US) * STEP_US
    end = (last + AFTER_US if to_us is None else to_us) // STEP_US * STEP_US
    return Grid(start, end) if start <= end else None


def _episodes(transitions: list[Transition]) -> list[Episode]:
    """Firing and resolved transitions paired, in the order in which the alerts fired."""
    firing: dict[tuple[str, Labels], Episode] = {}
    ended: list[Episode] = []
    for t in transitions:
        if t.to == "firing" and t.fired_at is not None:
            firing[t.alert, t.labels] = Episode(t.alert, t.labels, t.pending_at, t.fired_at, None, t.value)
        elif t.to == "resolved":
            ended.append(replace(firing.pop((t.alert, t.labels)), resolved_at=t.at))
    return sorted([*ended, *firing.values()], key=lambda e: (e.fired_at, e.alert, e.labels))
