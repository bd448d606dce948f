"""Counts of events (``count``) and of different values (``distinct``) in a window."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction

import numpy as np

from tocsin_server.durations import format_duration
from tocsin_server.query import (
    Bools,
    FieldName,
    Ints,
    Labels,
    Selection,
    Sql,
    all_of,
    dense,
    field_sql,
    none_of,
    sliding_distinct,
    sliding_sum,
)
from tocsin_server.rules.readings import Condition, Readings, Source, truths
from tocsin_server.rules.shares import having, leaving_out
from tocsin_server.rules.values import Count, Share, Window, format_share, in_words


class EventCount(Selection, Condition):
    """More than ``above`` events in the window, and at least ``min_ratio`` of all events of this name."""

    above: Count
    over: Window
    min_ratio: Share = Fraction(0)

    @property
    def lookback_us(self) -> int | None:
        """The window."""
        return self.over

    def readings(self, source: Source, by: Mapping[str, str], resolve: Fraction | None) -> Iterator[Readings]:
        """UNKNOWN where nothing matches and the senders are silent; see :class:`Condition`."""
        matching = matching_sql(self)
        measures = {
            "total": Sql("count(*)"),
            "count": Sql(f"count(*) FILTER (WHERE {matching.text})", matching.params),
        }
        width, size = source.grid.width(self.over), source.size(self.over)
        for labels, row in source.rows(named_sql(self.event), by, measures, self.over).items():
            total, count = (sliding_sum(dense(row["bucket"], row[name], size), width) for name in measures)
            unknown = no_rows(source, self, by, labels, count, row["bucket"])
            truth = truths(self._exceeds(total, count, Fraction(self.above)), unknown)
            held = truth if resolve is None else truths(self._exceeds(total, count, resolve), unknown)
            yield Readings(labels, truth, held, count, {"count": count, "total": total})

    def _exceeds(self, total: Ints, count: Ints, above: Fraction) -> Bools:
        enough = self.min_ratio.denominator * count >= self.min_ratio.numerator * total
        return np.asarray(enough & (above.denominator * count > above.numerator))

    def words(self, subject: str, for_us: int) -> str:
        """``> 20 failed logins in 5 min``."""
        return f"> {self.above} {subject or self.event} in {in_words(self.over)}"

    def exactly(self) -> str:
        """The count, which events, the window."""
        among = f"`{self.event}`{having(self.where)} in {format_duration(self.over)}"
        return f"more than {self.above} {among}{leaving_out(self.unless)}"

    def minimum(self) -> str:
        """``≥ 10% of all``."""
        return f"≥ {format_share(self.min_ratio)} of all `{self.event}`" if self.min_ratio else ""


class DistinctCount(Selection, Condition):
    """More than ``above`` different values of ``of`` in the window; an event without one counts by itself."""

    of: FieldName
    above: Count
    over: Window

    @property
    def lookback_us(self) -> int | None:
        """The window."""
        return self.over

    def readings(self, source: Source, by: Mapping[str, str], resolve: Fraction | None) -> Iterator[Readings]:
        """UNKNOWN where nothing matches and the senders are silent; see :class:`Condition`."""
        matching, named = matching_sql(self), named_sql(self.event)
        where = Sql(f"{named.text} AND {matching.text}", (*named.params, *matching.params))
        width, size = source.grid.width(self.over), source.size(self.over)
        values = {"value": f"COALESCE(CAST({field_sql(self.of)} AS VARCHAR), event_id)"}
        any_event = source.rows(named, by, {"total": Sql("count(*)")}, self.over)
        rows = source.rows(where, by, {}, self.over, values)
        for labels, row in rows.items():
            count = sliding_distinct(row["bucket"], row["value"], width, size)
            unknown = no_rows(source, self, by, labels, count, any_event[labels]["bucket"])
            truth = truths(count > self.above, unknown)
            held = (
                truth if resolve is None else truths(resolve.denominator * count > resolve.numerator, unknown)
            )
            yield Readings(labels, truth, held, count, {"count": count})

    def words(self, subject: str, for_us: int) -> str:
        """``> 5 sync errors in 1 hour``."""
        return f"> {self.above} {subject or 'different ' + self.of} in {in_words(self.over)}"

    def exactly(self) -> str:
        """The count, of which values, the window."""
        among = f"`{self.event}`{having(self.where)} in {format_duration(self.over)}"
        return f"more than {self.above} different {self.of} of {among}{leaving_out(self.unless)}"


def named_sql(event: str) -> Sql:
    """Any event of this name: what shows that a label set is alive."""
    return Sql("name = ?", (event,))


def matching_sql(selection: Selection) -> Sql:
    """Which events of this name count."""
    where, unless = all_of(selection.where), none_of(selection.unless)
    return Sql(f"({where.text} AND {unless.text})", (*where.params, *unless.params))


def no_rows(
    source: Source,
    condition: EventCount | DistinctCount,
    by: Mapping[str, str],
    labels: Labels,
    count: Ints,
    buckets: Ints,
) -> Bools:
    """Where a count of 0 means nothing: the senders are silent and the label set was seen within 24 h."""
    unknown = (count == 0) & source.presence.silent(by, labels, condition.event)
    if unknown.any():
        unknown &= source.seen(named_sql(condition.event), by, labels, buckets, condition.over)
    return np.asarray(unknown)
