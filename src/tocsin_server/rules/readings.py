"""What a condition says at each instant, and what it may look at to say it.

A condition reads its numbers from a :class:`Source` and yields one :class:`Readings` per label set. It
answers TRUE, FALSE or UNKNOWN: "no rows" is UNKNOWN, not FALSE, when the service that would have sent them
has fallen silent.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import IntEnum
from fractions import Fraction
from typing import Any, ClassVar

import duckdb
import numpy as np
import numpy.typing as npt

from tocsin_server.clock import SECOND_US
from tocsin_server.query import (
    Bools,
    Grid,
    Ints,
    Labels,
    Model,
    Rows,
    Sql,
    bounds,
    bucketed,
    label_sql,
)

#: A service that has ever sent this event promises one every 60 s.
HEARTBEAT = "log.heartbeat"
#: Such a service is silent when nothing at all was heard from it for this long (``T - 3 min < ts <= T``).
HEARD_FOR_US = 180 * SECOND_US
#: A label set that was not seen for this long is FALSE, no longer UNKNOWN.
SEEN_FOR_US = 86_400 * SECOND_US
#: A live evaluation looks this far back for events that arrived late.
LATE_US = 25 * 3600 * SECOND_US


class Truth(IntEnum):
    """What a condition says at one instant."""

    FALSE = 0
    TRUE = 1
    UNKNOWN = 2


Truths = npt.NDArray[np.int8]
Numbers = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Reading:
    """A condition at one instant: its truth, its truth for an alert that already fires, and its value."""

    truth: Truth
    held: Truth
    value: float | int | None = None


@dataclass(frozen=True, slots=True)
class Readings:
    """A condition over a grid of instants for one label set.

    ``held`` differs from ``truth`` only for rules with ``resolve_threshold``. ``numbers`` are the inputs that
    were compared, by name (for explanations); ``value`` is NaN where there is none.
    """

    labels: Labels
    truth: Truths
    held: Truths
    value: npt.NDArray[Any]
    numbers: Numbers = field(default_factory=dict)

    def at(self, index: int) -> Reading:
        """The reading at one instant of the grid."""
        value = self.value[index].item()
        return Reading(
            Truth(int(self.truth[index])), Truth(int(self.held[index])), None if value != value else value
        )


def truths(yes: Bools, unknown: Bools) -> Truths:
    """UNKNOWN where ``unknown``, else TRUE where ``yes``, else FALSE."""
    return np.where(unknown, Truth.UNKNOWN, np.where(yes, Truth.TRUE, Truth.FALSE)).astype(np.int8)


class Condition(Model, ABC):
    """One kind of condition: a part of a rule file that can be evaluated, and described in words."""

    #: Whether a window remembers past events, so that ``for`` must be longer than ``over`` to mean anything.
    windowed: ClassVar[bool] = True

    @property
    @abstractmethod
    def lookback_us(self) -> int | None:
        """How far before an instant events still matter; None when that cannot be known."""

    @abstractmethod
    def readings(self, source: Source, by: Mapping[str, str], resolve: Fraction | None) -> Iterator[Readings]:
        """Readings per label set; ``by`` maps labels to fields. Raises duckdb.Error when the query fails."""

    @abstractmethod
    def words(self, subject: str, for_us: int) -> str:
        """The condition as the order words it, ``subject`` naming what is measured."""

    @abstractmethod
    def exactly(self) -> str:
        """The condition in full, for the thresholds page."""

    def minimum(self) -> str:
        """Least number of events that the condition needs; empty when it needs none."""
        return ""


# --- what a condition may look at -----------------------------------------------------------------------


@dataclass
class Source:
    """The events, the instants, and the label sets of this rule that already have an instance."""

    connection: duckdb.DuckDBPyConnection
    grid: Grid
    presence: Presence
    known: frozenset[Labels] = frozenset()
    expect: tuple[str, ...] = ()
    _last: dict[Sql, dict[Labels, int]] = field(default_factory=dict)

    def rows(
        self,
        where: Sql,
        by: Mapping[str, str],
        measures: Mapping[str, Sql],
        window_us: int,
        keys: Mapping[str, str] | None = None,
    ) -> Rows:
        """The range query, with an empty row for each known label set that has no events."""
        rows = bucketed(self.connection, where, by, measures, self.grid, window_us, keys)
        empty = {name: np.empty(0, np.int64) for name in ("bucket", *measures, *(keys or ()))}
        return {**dict.fromkeys(self.known, empty), **rows}

    def size(self, window_us: int) -> int:
        """Number of buckets that the range query covers."""
        return self.grid.width(window_us) + len(self.grid) - 1

    def seen(self, where: Sql, by: Mapping[str, str], labels: Labels, buckets: Ints, window_us: int) -> Bools:
        """Whether an event of the label set was seen in the 24 h before each instant."""
        width, left = self.grid.width(window_us), self.grid.from_us - window_us
        before = self._before(where, by, left).get(labels, left - SEEN_FOR_US)
        newest = np.searchsorted(buckets, np.arange(width, self.size(window_us) + 1), side="right") - 1
        edges = np.append(left + self.grid.step_us * buckets, before)  # index -1: nothing in the range yet
        return np.asarray(edges[newest] > self.grid.instants() - SEEN_FOR_US)

    def _before(self, where: Sql, by: Mapping[str, str], left: int) -> dict[Labels, int]:
        """Last event before the range; only label sets that have an instance need it."""
        if not self.known:
            return {}
        if where not in self._last:
            after = self.grid.from_us - SEEN_FOR_US
            self._last[where] = bounds(self.connection, "max", where, by, after, left)
        return self._last[where]


class Memory:
    """What live evaluation remembers of the whole history: when the events of a selection were first seen.

    The first question about a selection reads everything (from ``whole``, a connection to all events); later
    ones only what may have arrived since: events up to :data:`LATE_US` older than the last question.
    """

    def __init__(self, whole: Callable[[], AbstractContextManager[duckdb.DuckDBPyConnection]]) -> None:
        self._whole = whole
        self._firsts: dict[tuple[Sql, Labels], tuple[int, dict[Labels, int]]] = {}

    def first(
        self, connection: duckdb.DuckDBPyConnection, where: Sql, by: Mapping[str, str], until_us: int
    ) -> dict[Labels, int]:
        """First event time (µs) per label set with ``ts <= until_us``; what ``bounds("min", …)`` says."""
        key = where, tuple(by.items())
        if key in self._firsts:
            asked_us, known = self._firsts[key]
            found = bounds(connection, "min", where, by, asked_us - LATE_US, until_us)
        else:
            known = {}
            with self._whole() as everything:
                found = bounds(everything, "min", where, by, None, until_us)
        firsts = found | {labels: min(at, found.get(labels, at)) for labels, at in known.items()}
        self._firsts[key] = until_us, firsts
        return {labels: at for labels, at in firsts.items() if at <= until_us}


@dataclass
class Presence:
    """Which services promised heartbeats, and when they were silent. Shared by all rules of an evaluation.

    With a ``memory`` the connection need not hold the whole history.
    """

    connection: duckdb.DuckDBPyConnection
    grid: Grid
    memory: Memory | None = None
    _senders: dict[str, dict[Labels, int]] = field(default_factory=dict)

    def first(self, where: Sql, by: Mapping[str, str]) -> dict[Labels, int]:
        """First event time (µs) per label set in the whole history up to the last instant."""
        if self.memory is not None:
            return self.memory.first(self.connection, where, by, self.grid.to_us)
        return bounds(self.connection, "min", where, by, None, self.grid.to_us)

    @functools.cached_property
    def promises(self) -> dict[str, int]:
        """Service -> time (µs) of its first heartbeat."""
        first = self.first(Sql("name = ?", (HEARTBEAT,)), {"service": "service"})
        return {dict(labels)["service"]: at for labels, at in first.items()}

    @functools.cached_property
    def _silent(self) -> dict[str, Bools]:
        if not self.promises:
            return {}
        counts = {"n": Sql("count(*)")}
        rows = bucketed(
            self.connection, self._promising(), {"service": "service"}, counts, self.grid, HEARD_FOR_US
        )
        heard = {dict(labels)["service"]: row["bucket"] for labels, row in rows.items()}
        none = np.empty(0, np.int64)
        return {
            service: self._promised(at) & ~fresh(heard.get(service, none), self.grid, HEARD_FOR_US)
            for service, at in self.promises.items()
        }

    def silent(self, by: Mapping[str, str], labels: Labels, event: str) -> Bools:
        """Where "no rows" of ``event`` means nothing: its service is silent, or without a service label every
        promising service that ever sent it (in the labels' environment) is."""
        fields = {by[label]: value for label, value in labels if label in by}
        if not self.promises:
            return np.zeros(len(self.grid), np.bool_)
        if "service" in fields:
            return self._silent.get(fields["service"], np.zeros(len(self.grid), np.bool_))
        return self._senders_silent(event, fields.get("environment"))

    def _senders_silent(self, event: str, environment: str | None) -> Bools:
        some, all_silent = np.zeros(len(self.grid), np.bool_), np.ones(len(self.grid), np.bool_)
        for labels, first in self._senders_of(event).items():
            sender = dict(labels)
            if environment in (None, sender["environment"]):
                counts = (first <= self.grid.instants()) & self._promised(self.promises[sender["service"]])
                some |= counts
                all_silent &= ~counts | self._silent[sender["service"]]
        return some & all_silent

    def _senders_of(self, event: str) -> dict[Labels, int]:
        if event not in self._senders:
            first = self.first(
                Sql("name = ?", (event,)), {"service": "service", "environment": "environment"}
            )
            promising = {
                labels: at for labels, at in first.items() if dict(labels)["service"] in self.promises
            }
            self._senders[event] = promising
        return self._senders[event]

    def _promising(self) -> Sql:
        marks = ", ".join("?" for _ in self.promises)
        return Sql(f"{label_sql('service')} IN ({marks})", tuple(self.promises))

    def _promised(self, at_us: int) -> Bools:
        return np.asarray(at_us <= self.grid.instants())


def fresh(buckets: Ints, grid: Grid, window_us: int) -> Bools:
    """Whether each window of ``window_us`` holds one of the (ascending) buckets."""
    ends = np.arange(grid.width(window_us), grid.width(window_us) + len(grid))
    until = np.searchsorted(buckets, ends, side="right")
    return np.asarray(until > np.searchsorted(buckets, ends - grid.width(window_us), side="right"))
