"""The last results of a check (``last_results``): all of them failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field, Strict

from tocsin_server.durations import format_duration
from tocsin_server.query import Filters, Selection, Sql, all_of, selection_sql
from tocsin_server.rules.gauges import NEWEST
from tocsin_server.rules.readings import Condition, Readings, Source, truths
from tocsin_server.rules.shares import having, leaving_out, listed
from tocsin_server.rules.values import NotEmpty, Window


class LastResults(Selection, Condition):
    """The last ``last`` results within ``within`` all miss ``good``; results are ordered by time, then id."""

    windowed: ClassVar[bool] = False
    good: Annotated[Filters, NotEmpty]
    last: Annotated[int, Strict(), Field(ge=1, le=100)]
    within: Window

    @property
    def lookback_us(self) -> int | None:
        """How old a result may be."""
        return self.within

    def readings(self, source: Source, by: Mapping[str, str], resolve: Fraction | None) -> Iterator[Readings]:
        """UNKNOWN without a result, FALSE with fewer than ``last``; see :class:`Condition`."""
        where, good = selection_sql(self), all_of(self.good)
        measures = {
            "results": Sql("count(*)"),
            "failed": Sql(f"list(NOT ({good.text}) ORDER BY {NEWEST} DESC)[:{self.last}]", good.params),
        }
        width, size = source.grid.width(self.within), source.size(self.within)
        ends = np.arange(width, size + 1)
        for labels, row in source.rows(where, by, measures, self.within).items():
            kept = [results[::-1] for results in row["failed"]]
            failures = np.concatenate(([0], np.cumsum(np.concatenate([[], *kept])))).astype(np.int64)
            buckets = np.repeat(row["bucket"], [len(results) for results in kept])
            until = np.searchsorted(buckets, ends, side="right")
            results = until - np.searchsorted(buckets, ends - width, side="right")
            failed = failures[until] - failures[until - np.minimum(results, self.last)]
            unknown = results == 0
            if unknown.any():
                unknown &= source.seen(where, by, labels, row["bucket"], self.within)
            truth = truths((results >= self.last) & (failed == self.last), unknown)
            yield Readings(labels, truth, truth, failed, {"failed": failed, "results": results})

    def words(self, subject: str, for_us: int) -> str:
        """``Health check fails 3x``."""
        return f"{subject or self.event} fails {self.last}x"

    def exactly(self) -> str:
        """How many results, which, and within what time."""
        among = f"`{self.event}`{having(self.where)} within {format_duration(self.within)}"
        return f"the last {self.last} {among} are not {listed(self.good)}{leaving_out(self.unless)}"
