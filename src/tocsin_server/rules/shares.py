"""Shares of events: the part that is bad (``ratio``), the part beyond a bound (``fraction``)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt

from tocsin_server.durations import format_duration
from tocsin_server.query import (
    Bools,
    FieldName,
    Filters,
    Ints,
    Selection,
    Sql,
    all_of,
    dense,
    number_sql,
    selection_sql,
    sliding_sum,
)
from tocsin_server.rules.readings import Condition, Readings, Source, truths
from tocsin_server.rules.values import Count, NotEmpty, Share, Window, format_share, in_words


class _ShareCondition(Selection, Condition):
    """``100 * bad > above * total`` over a window, compared in integers, with least counts."""

    above: Share
    over: Window
    min_total: Count = 1
    min_bad: Count = 1

    @property
    def lookback_us(self) -> int | None:
        """The window."""
        return self.over

    @abstractmethod
    def _bad_sql(self) -> Sql:
        """Which events are bad."""

    def readings(self, source: Source, by: Mapping[str, str], resolve: Fraction | None) -> Iterator[Readings]:
        """UNKNOWN where the window is empty and the service silent; see :class:`Condition`."""
        where, bad_sql = selection_sql(self), self._bad_sql()
        bad_count = Sql(f"count(*) FILTER (WHERE {bad_sql.text})", bad_sql.params)
        measures = {"total": Sql("count(*)"), "bad": bad_count}
        width, size = source.grid.width(self.over), source.size(self.over)
        for labels, row in source.rows(where, by, measures, self.over).items():
            total, bad = (sliding_sum(dense(row["bucket"], row[name], size), width) for name in measures)
            unknown = (total == 0) & source.presence.silent(by, labels, self.event)
            if unknown.any():
                unknown &= source.seen(where, by, labels, row["bucket"], self.over)
            truth = truths(self._exceeds(total, bad, self.above), unknown)
            held = truth if resolve is None else truths(self._exceeds(total, bad, resolve), unknown)
            yield Readings(labels, truth, held, divided(bad, total), {"total": total, "bad": bad})

    def _exceeds(self, total: Ints, bad: Ints, share: Fraction) -> Bools:
        enough = (total >= self.min_total) & (bad >= self.min_bad)
        return np.asarray(enough & (share.denominator * bad > share.numerator * total))

    def minimum(self) -> str:
        """``≥ 20 events, ≥ 5 bad``."""
        parts = [f"≥ {self.min_total} events"] if self.min_total > 1 else []
        return ", ".join(parts + ([f"≥ {self.min_bad} bad"] if self.min_bad > 1 else []))

    def _among(self, bad: str) -> str:
        which = f"`{self.event}`{having(self.where)} in {format_duration(self.over)}"
        return f"more than {format_share(self.above)} of {which} with {bad}{leaving_out(self.unless)}"


class Ratio(_ShareCondition):
    """More than ``above`` of the events meet every matcher of ``bad``."""

    bad: Annotated[Filters, NotEmpty]

    def _bad_sql(self) -> Sql:
        return all_of(self.bad)

    def words(self, subject: str, for_us: int) -> str:
        """``> 5% 5xx responses in 5 min``."""
        return f"> {format_share(self.above)} {subject or 'bad ' + self.event} in {in_words(self.over)}"

    def exactly(self) -> str:
        """The share, which events are bad, among which."""
        return self._among(listed(self.bad))


class FractionBeyond(_ShareCondition):
    """More than ``above`` of the events have ``of`` greater than ``bound``: the nearest-rank percentile."""

    of: FieldName
    bound: float

    def _bad_sql(self) -> Sql:
        return Sql(f"COALESCE({number_sql(self.of)} > ?, false)", (self.bound,))

    def words(self, subject: str, for_us: int) -> str:
        """``p95 latency > 2s for 5 min``."""
        percentile = f"p{float(100 * (1 - self.above)):g}"
        bound = f"{self.bound / 1000:g}s" if self.of.endswith("_ms") else f"{self.bound:g}"
        return f"{percentile} {subject or self.of} > {bound} for {in_words(for_us or self.over)}"

    def exactly(self) -> str:
        """The share, the bound, among which events."""
        return self._among(f"{self.of} > {self.bound:g}")


def divided(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """``part / whole``, NaN where ``whole`` is 0."""
    return np.asarray(np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole != 0))


def having(filters: Filters) -> str:
    """`` with status error``, or nothing."""
    return f" with {listed(filters)}" if filters else ""


def leaving_out(filters: Filters) -> str:
    """``; left out: probe true, path /up``, or nothing."""
    return f"; left out: {listed(filters, ', ')}" if filters else ""


def listed(filters: Filters, separator: str = " and ") -> str:
    """``http_status >= 500 and method GET``."""
    return separator.join(f"{name} {matcher}" for name, matcher in filters.items())
