"""Newest samples of gauges: their sum (``latest_sum``), or the ratio of two fields (``latest_ratio``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tocsin_server.durations import format_duration
from tocsin_server.query import (
    Bools,
    FieldName,
    Floats,
    Ints,
    Selection,
    Sql,
    label_sql,
    latest,
    number_sql,
    selection_sql,
)
from tocsin_server.rules.readings import Condition, Readings, Source, truths
from tocsin_server.rules.shares import divided, having, leaving_out
from tocsin_server.rules.values import Share, Threshold, Window, format_number, format_share, in_words

#: Order of samples: by event time, then by id, never by arrival.
NEWEST = "(ts, COALESCE(event_id, ''))"


class _Gauge(Selection, Condition):
    """Reads the newest sample of each bucket; a sample counts for ``within``, afterwards it is UNKNOWN."""

    windowed: ClassVar[bool] = False
    within: Window

    @property
    def lookback_us(self) -> int | None:
        """How long a sample counts."""
        return self.within

    def _unknown(self, source: Source, by: Mapping[str, str], row: Mapping[str, Any], none: Bools) -> Bools:
        if not none.any():
            return none
        where = selection_sql(self)
        return none & source.seen(where, by, row["labels"], np.unique(row["bucket"]), self.within)


class LatestSum(_Gauge):
    """The sum of the newest sample of each value of ``per`` is greater than ``above``."""

    of: FieldName
    per: FieldName
    above: Threshold

    def readings(self, source: Source, by: Mapping[str, str], resolve: Fraction | None) -> Iterator[Readings]:
        """UNKNOWN where no ``per`` was sampled within ``within``; see :class:`Condition`."""
        where, number = selection_sql(self), number_sql(self.of)
        sampled = Sql(f"{where.text} AND COALESCE(isfinite({number}), false)", where.params)
        measures = {"sample": Sql(f"arg_max({number}, {NEWEST})")}
        for labels, row in source.rows(
            sampled, by, measures, self.within, {"per": label_sql(self.per)}
        ).items():
            total, reported = self._sum(source, row)
            unknown = self._unknown(source, by, {**row, "labels": labels}, reported == 0)
            truth = truths(total > float(self.above), unknown)
            held = truth if resolve is None else truths(total > float(resolve), unknown)
            value = np.where(reported == 0, np.nan, total)
            yield Readings(labels, truth, held, value, {"sum": total, "reported": reported})

    def _sum(self, source: Source, row: Mapping[str, Any]) -> tuple[Floats, Ints]:
        total, reported = np.zeros(len(source.grid)), np.zeros(len(source.grid), np.int64)
        for name in set(row["per"].tolist()):
            mine = np.flatnonzero(row["per"] == name)
            newest = newest_of(source, row["bucket"][mine], self.within)
            total += np.where(newest < 0, 0, np.append(row["sample"][mine], 0)[newest])
            reported += newest >= 0
        return total, reported

    def words(self, subject: str, for_us: int) -> str:
        """``> 100 pending jobs for 10 min``."""
        return f"> {format_number(self.above)} {subject or self.of} for {in_words(for_us)}"

    def exactly(self) -> str:
        """Which samples are added up, and how long each counts."""
        newest = f"newest {self.of} of each {self.per} in `{self.event}`{having(self.where)}"
        counts = f"a sample counts {format_duration(self.within)}"
        return f"sum of the {newest} > {format_number(self.above)}; {counts}{leaving_out(self.unless)}"


class LatestRatio(_Gauge):
    """In the newest sample ``of`` is more than ``above`` of ``to``; a sample that cannot be is UNKNOWN."""

    of: FieldName
    to: FieldName
    above: Share

    def readings(self, source: Source, by: Mapping[str, str], resolve: Fraction | None) -> Iterator[Readings]:
        """UNKNOWN without a sample within ``within``, and when not ``0 < to`` and ``of <= to``."""
        limit = 2**63 // max(self.above.denominator, resolve.denominator if resolve else 1)
        measures = {name: self._newest(field, limit) for name, field in (("of", self.of), ("to", self.to))}
        for labels, row in source.rows(selection_sql(self), by, measures, self.within).items():
            newest = newest_of(source, row["bucket"], self.within)
            of, to = (np.append(row[name], 0)[newest] for name in measures)
            none = newest < 0
            valid = ~none & (to > 0) & (of <= to)
            unknown = ~valid & ~none | self._unknown(source, by, {**row, "labels": labels}, none)
            truth = truths(valid & exceeds(of, to, self.above), unknown)
            held = truth if resolve is None else truths(valid & exceeds(of, to, resolve), unknown)
            value = np.where(valid, divided(of, to), np.nan)
            yield Readings(labels, truth, held, value, {"of": of, "to": to})

    def _newest(self, field: str, limit: int) -> Sql:
        """``field`` of the newest sample; what is no number, or too large to compare, makes it invalid."""
        number = number_sql(field, "BIGINT")
        usable = f"CASE WHEN abs({number}) < {limit} THEN {number} END"
        missing = 0 if field == self.to else limit - 1  # capacity 0, or more used than there is: both invalid
        return Sql(f"arg_max(COALESCE({usable}, {missing}), {NEWEST})")

    def words(self, subject: str, for_us: int) -> str:
        """``> 80% database disk``."""
        return f"> {format_share(self.above)} {subject or self.of}"

    def exactly(self) -> str:
        """Which fields of which sample, and how long it counts."""
        sample = f"the newest `{self.event}`{having(self.where)}"
        counts = f"a sample counts {format_duration(self.within)}"
        exceeds_share = f"{self.of} > {format_share(self.above)} of {self.to}"
        return f"{exceeds_share} in {sample}; {counts}{leaving_out(self.unless)}"


def newest_of(source: Source, buckets: Ints, within_us: int) -> Ints:
    """Index of the newest row of each window, -1 for none."""
    return latest(buckets, source.grid.width(within_us), source.size(within_us))


def exceeds(part: npt.NDArray[Any], whole: npt.NDArray[Any], share: Fraction) -> Bools:
    """``part / whole > share`` in integers."""
    return np.asarray(share.denominator * part > share.numerator * whole)
