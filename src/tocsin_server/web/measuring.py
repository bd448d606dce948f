"""What the conditions of rules measure, now or over time: the evaluator's own readings, shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np

from tocsin_server.query import Grid, Labels, Matcher, Selection
from tocsin_server.rules import Rule
from tocsin_server.rules.counts import DistinctCount, EventCount
from tocsin_server.rules.readings import SEEN_FOR_US, Presence, Readings, Source, Truth
from tocsin_server.rules.shares import FractionBeyond, Ratio
from tocsin_server.web.filters import explore_url, of_selection, written
from tocsin_server.web.params import TimeRange

#: Failures of a query that are the rule's, not ours (as the evaluator takes them).
FAILURES = (duckdb.Error, ArithmeticError, LookupError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class Measured:
    """A condition at one instant for one label set; ``truth`` is ``true``, ``false`` or ``unknown``."""

    labels: Labels
    truth: str
    value: float | int | None
    numbers: Mapping[str, float | int]


def since(rule: Rule, from_us: int) -> int:
    """How far back the events lie that matter to a rule from ``from_us`` on."""
    return from_us - SEEN_FOR_US - (rule.condition.lookback_us or 0)


def readings_over(
    connection: duckdb.DuckDBPyConnection,
    rule: Rule,
    grid: Grid,
    known: Iterable[Labels] = (),
    expect: Sequence[str] = (),
    presence: Presence | None = None,
) -> list[Readings]:
    """Readings per label set; ``known`` have an instance. Raises one of :data:`FAILURES`."""
    presence = presence or Presence(connection, grid)
    source = Source(connection, grid, presence, frozenset(known), tuple(expect))
    return list(rule.condition.readings(source, rule.by, rule.resolve_threshold))


def measured(readings: Readings, index: int = 0) -> Measured:
    """One instant of the grid as plain values."""
    at = readings.at(index)
    numbers = {name: _plain(values[index]) for name, values in readings.numbers.items()}
    kept = {name: number for name, number in numbers.items() if number is not None}
    return Measured(readings.labels, at.truth.name.lower(), at.value, kept)


def worst(readings: Iterable[Readings]) -> Measured | None:
    """Of one instant: the label set nearest to firing, the true before the false before the unknown."""
    order = {Truth.TRUE: 2, Truth.FALSE: 1, Truth.UNKNOWN: 0}
    found = [(order[one.at(0).truth], _or_least(one.at(0).value), measured(one)) for one in readings]
    return max(found, key=lambda entry: entry[:2])[2] if found else None


def values(readings: Readings) -> list[float | int | None]:
    """The value at each instant; None where nothing was measured or the truth is unknown."""
    raw = readings.value.tolist()
    unknown = (readings.truth == Truth.UNKNOWN).tolist()
    return [None if gone or value != value else value for value, gone in zip(raw, unknown, strict=True)]


def number_urls(rule: Rule, labels: Labels, at_us: int) -> dict[str, str]:
    """Number of a reading -> the explore page with exactly the events that it counts, where it counts any."""
    condition = rule.condition
    window = getattr(condition, "over", None) or getattr(condition, "within", None)
    if not isinstance(condition, Selection) or window is None:
        return {}
    span = TimeRange(at_us - window, at_us)
    where, unless = of_selection(condition)
    where += [f"{rule.by[label]}={value}" for label, value in labels if value]
    all_of_them = explore_url(span, where, unless)
    if isinstance(condition, Ratio):
        return {"total": all_of_them, "bad": explore_url(span, where + written(condition.bad), unless)}
    if isinstance(condition, FractionBeyond):
        beyond = written({condition.of: Matcher(">", (condition.bound,))})
        return {"total": all_of_them, "bad": explore_url(span, where + beyond, unless)}
    name = "count" if isinstance(condition, EventCount | DistinctCount) else "results"
    return {name: all_of_them, "value": all_of_them}


def _or_least(value: float | int | None) -> float:
    return float("-inf") if value is None else float(value)


def _plain(number: Any) -> float | int | None:
    value: float | int = number.item() if isinstance(number, np.generic) else number
    return None if value != value else value
