"""The instant at which a silent alert came nearest to firing, over a whole history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import duckdb
import numpy as np

from tocsin_server.backtest import CHUNK, Report
from tocsin_server.clock import SECOND_US
from tocsin_server.durations import format_duration
from tocsin_server.query import STEP_US, Bools, Grid, Labels
from tocsin_server.rules import Rule
from tocsin_server.rules.readings import Presence, Readings, Source, Truth


@dataclass(frozen=True, slots=True)
class Nearest:
    """The instant at which a silent alert came nearest to firing.

    ``value`` and ``numbers`` are what the condition measured then (None: it never measured anything),
    ``held_us`` is the longest time for which it held, in microseconds.
    """

    alert: str
    condition: str
    labels: Labels = ()
    at_us: int | None = None
    value: float | int | None = None
    numbers: tuple[tuple[str, float | int], ...] = ()
    held_us: int = 0
    for_us: int = 0
    unknown: bool = False
    too_few: bool = False

    @property
    def reason(self) -> str:
        """One clause for people."""
        if self.at_us is None:
            return "too little history, or no fresh sample" if self.unknown else "no events that it looks at"
        if self.held_us:
            return f"held for {_whole(self.held_us)}, must hold for {_whole(self.for_us)}"
        return "too few events" if self.too_few else "stayed below"


def silent(
    connection: duckdb.DuckDBPyConnection, rules: Sequence[Rule], report: Report, expect: Sequence[str] = ()
) -> list[Nearest]:
    """For each rule without an episode in ``report``: how near it came over the same instants."""
    if report.from_us is None or report.to_us is None:
        return []
    fired = {episode.alert for episode in report.episodes}
    grid = Grid(report.from_us, report.to_us)
    return [
        _nearest(connection, rule, grid, tuple(expect))
        for rule in rules
        if not rule.meta and rule.alert not in fired
    ]


def _nearest(
    connection: duckdb.DuckDBPyConnection, rule: Rule, grid: Grid, expect: tuple[str, ...]
) -> Nearest:
    words = rule.condition.words(rule.subject, rule.for_us)
    minimum = rule.condition.minimum()
    best = Nearest(rule.alert, f"{words}, {minimum}" if minimum else words, for_us=rule.for_us)
    for chunk in grid.chunks(CHUNK):
        source = Source(connection, chunk, Presence(connection, chunk), expect=expect)
        try:
            for readings in rule.condition.readings(source, rule.by, rule.resolve_threshold):
                best = max(best, _of(best, rule, readings, chunk), key=_nearness)
        except duckdb.Error as error:
            return replace(best, condition=f"its query failed: {' '.join(str(error).split())}")
    return best


def _nearness(nearest: Nearest) -> tuple[int, bool, bool, float, bool]:
    value = float("-inf") if nearest.value is None else nearest.value
    return nearest.held_us, nearest.at_us is not None, not nearest.too_few, value, nearest.unknown


def _of(silent: Nearest, rule: Rule, readings: Readings, grid: Grid) -> Nearest:
    values = np.where(readings.truth == Truth.UNKNOWN, np.nan, readings.value.astype(np.float64))
    held_us = _longest(readings.truth == Truth.TRUE) * STEP_US
    if np.isnan(values).all():
        return replace(silent, labels=readings.labels, held_us=held_us, unknown=True)
    enough = readings.numbers.get("total", values) >= getattr(rule.condition, "min_total", -np.inf)
    judged = np.where(enough, values, np.nan)
    too_few = bool(np.isnan(judged).all())
    index = int(np.nanargmax(readings.numbers["total"] if too_few else judged))
    return replace(
        silent,
        labels=readings.labels,
        at_us=int(grid.instants()[index]),
        value=readings.value[index].item(),
        numbers=tuple((name, numbers[index].item()) for name, numbers in readings.numbers.items()),
        held_us=held_us,
        unknown=False,
        too_few=too_few,
    )


def _longest(true: Bools) -> int:
    """Steps from the first to the last of the longest run of TRUE instants."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], true.astype(np.int8), [0]))))
    runs = edges[1::2] - edges[::2]
    return int(runs.max()) - 1 if len(runs) else 0


def _whole(us: int) -> str:
    return format_duration(us // SECOND_US * SECOND_US)
