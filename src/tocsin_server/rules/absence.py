"""Silence as a signal: nothing was heard (``absence``), and the rule that always fires (``always``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from tocsin_server.clock import SECOND_US
from tocsin_server.durations import format_duration
from tocsin_server.query import (
    Bools,
    EventName,
    Filters,
    Labels,
    Sql,
    all_of,
    bounds,
    label_sql,
    labels_of,
)
from tocsin_server.rules.readings import SEEN_FOR_US, Condition, Readings, Source, Truth, fresh, truths
from tocsin_server.rules.values import Steps, Window


class Absence(Condition):
    """None of ``events`` (empty: any event) was seen for ``over`` from a label set that should send them.

    Who should: the label sets that sent ``promised_by`` (without it: the events themselves) and were seen
    within ``forget_after``; or exactly the values of ``expect`` for the one label, once the history covers
    the window.
    """

    windowed: ClassVar[bool] = False
    events: list[EventName] = Field(default_factory=list)
    where: Filters = Field(default_factory=dict)
    over: Window
    promised_by: EventName | None = None
    forget_after: Steps = SEEN_FOR_US
    expect: list[str] = Field(default_factory=list)

    @property
    def lookback_us(self) -> int | None:
        """The window, and how long a silent label set is remembered."""
        return self.over + self.forget_after

    def readings(self, source: Source, by: Mapping[str, str], resolve: Fraction | None) -> Iterator[Readings]:
        """TRUE for a label set that fell silent; UNKNOWN for an expected one on too short a history."""
        where, instants = self._where(by), source.grid.instants()
        rows = source.rows(where, by, {"at": Sql("max(epoch_us(ts))")}, self.over)
        left = source.grid.from_us - self.over
        before = bounds(source.connection, "max", where, by, left - self.forget_after, left)
        expected = self._expected(source, by)
        covered = self._covered(source) if expected else np.zeros(len(instants), np.bool_)
        promised = self._promised(source, by)
        nothing = {"bucket": np.empty(0, np.int64), "at": np.empty(0, np.int64)}
        for labels in sorted({*rows, *before, *expected}):
            row = rows.get(labels, nothing)
            last = self._last(source, row, before.get(labels))
            remembered = last > instants - self.forget_after
            if promised is not None:
                remembered &= promised.get(labels, source.grid.to_us + 1) <= instants
            absent = ~fresh(row["bucket"], source.grid, self.over)
            due = remembered | (labels in expected and covered)
            unknown = absent & ~due & (labels in expected)
            seconds = np.where(np.isneginf(last), np.nan, (instants - last) / SECOND_US)
            truth = truths(absent & due, unknown)
            yield Readings(labels, truth, truth, seconds, {"seconds": seconds})

    def _where(self, by: Mapping[str, str]) -> Sql:
        parts = (
            [Sql(f"name IN ({', '.join('?' * len(self.events))})", tuple(self.events))] if self.events else []
        )
        parts += [all_of(self.where)] if self.where else []
        if self.expect:
            marks = ", ".join("?" * len(self.expect))
            parts.append(Sql(f"{label_sql(next(iter(by.values())))} IN ({marks})", tuple(self.expect)))
        text = " AND ".join(part.text for part in parts) or "true"
        return Sql(text, tuple(p for part in parts for p in part.params))

    def _expected(self, source: Source, by: Mapping[str, str]) -> set[Labels]:
        """The rule's own list; for a rule about any event by service also the installation's services."""
        services = source.expect if not self.events and list(by.values()) == ["service"] else ()
        return {labels_of({next(iter(by)): value}) for value in (*self.expect, *services)}

    def _covered(self, source: Source) -> Bools:
        """Where the history of these events (whoever sent them) is at least as long as the window."""
        anyone = self.model_copy(update={"where": {}, "expect": []})._where({})
        first = source.presence.first(anyone, {}).get((), source.grid.to_us + 1)
        return np.asarray(first <= source.grid.instants() - self.over)

    def _promised(self, source: Source, by: Mapping[str, str]) -> dict[Labels, int] | None:
        if self.promised_by is None:
            return None
        return source.presence.first(Sql("name = ?", (self.promised_by,)), by)

    def _last(
        self, source: Source, row: Mapping[str, npt.NDArray[np.int64]], before: int | None
    ) -> npt.NDArray[np.float64]:
        """Time (µs) of the newest event at each instant, minus infinity for none."""
        ends = np.arange(source.grid.width(self.over), source.size(self.over) + 1)
        newest = np.searchsorted(row["bucket"], ends, side="right") - 1
        times = np.append(row["at"].astype(np.float64), -np.inf if before is None else before)
        return np.asarray(times[newest])  # index -1: the last event before the range

    def words(self, subject: str, for_us: int) -> str:
        """``no logs for 3 min``."""
        return f"no {subject or ' or '.join(self.events) or 'event'} for {format_duration(self.over)}"

    def exactly(self) -> str:
        """Which events are missing, from whom, and when it is forgotten."""
        events = " or ".join(f"`{event}`" for event in self.events) or "event of any kind"
        who = f" from a sender of `{self.promised_by}`" if self.promised_by else ""
        expected = f" from each of {', '.join(self.expect)}" if self.expect else ""
        forgotten = "" if self.expect else f"; forgotten after {format_duration(self.forget_after)}"
        return f"no {events}{who}{expected} for {format_duration(self.over)}{forgotten}"


class Always(Condition):
    """Always TRUE, for one instance: proves that evaluation and delivery work end to end."""

    windowed: ClassVar[bool] = False

    @property
    def lookback_us(self) -> int | None:
        """No event matters."""
        return 0

    def readings(self, source: Source, by: Mapping[str, str], resolve: Fraction | None) -> Iterator[Readings]:
        """TRUE at every instant."""
        truth = np.full(len(source.grid), Truth.TRUE, np.int8)
        yield Readings((), truth, truth, np.full(len(source.grid), np.nan))

    def words(self, subject: str, for_us: int) -> str:
        """``always``."""
        return "always"

    def exactly(self) -> str:
        """``always fires``."""
        return "always fires"
