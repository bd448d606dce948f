"""The escape hatch: a condition in SQL (``sql``), one SELECT over ``events``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from fractions import Fraction
from typing import Annotated, Any, ClassVar

import duckdb
import numpy as np
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from tocsin_server.clock import SECOND_US
from tocsin_server.query import Labels, labels_of
from tocsin_server.rules.readings import Condition, Readings, Source, Truth
from tocsin_server.rules.values import Threshold, format_number
from tocsin_server.sql import RefusedSQL, guard

_ANSWERS = {"hint": "select the labels of `by`, and `value`: a boolean, or a number with `above`"}


def _guarded(query: str) -> str:
    try:
        return guard(query, deterministic=True)
    except RefusedSQL as error:
        raise PydanticCustomError("sql", "{reason}", {"reason": str(error), **_ANSWERS}) from None


class Select(Condition):
    """Rows of ``query`` at ``:now``: a column per label of ``by``, and ``value``: TRUE or above ``above``.

    A label set without a row is FALSE; a NULL value is UNKNOWN. The query runs once per instant: for a
    backtest of a day that is 2,880 queries, where the other kinds need one.
    """

    windowed: ClassVar[bool] = False
    query: Annotated[str, AfterValidator(_guarded)]
    above: Threshold | None = None

    @property
    def lookback_us(self) -> int | None:
        """Whatever the query looks at."""
        return None

    def readings(self, source: Source, by: Mapping[str, str], resolve: Fraction | None) -> Iterator[Readings]:
        """One query per instant; see :class:`Condition`."""
        answers = [self._ask(source, by, at_us) for at_us in source.grid.instants().tolist()]
        for labels in sorted({*source.known, *(labels for answer in answers for labels in answer)}):
            values = [answer.get(labels, False) for answer in answers]
            truth = np.array([self._truth(value, self.above) for value in values], np.int8)
            held = truth if resolve is None else np.array([self._truth(v, resolve) for v in values], np.int8)
            numbers = np.array([np.nan if value is None else float(value) for value in values])
            yield Readings(labels, truth, held, numbers, {"value": numbers})

    def _ask(self, source: Source, by: Mapping[str, str], at_us: int) -> dict[Labels, Any]:
        columns, rows = ask(source.connection, self.query, at_us)
        named = [dict(zip(columns, row, strict=True)) for row in rows]
        return {labels_of({name: _label(row[name]) for name in by}): row["value"] for row in named}

    def _truth(self, value: bool | float | None, above: Fraction | None) -> Truth:
        if value is None or value != value:
            return Truth.UNKNOWN
        return Truth(value > above) if above is not None else Truth(bool(value))

    def words(self, subject: str, for_us: int) -> str:
        """``> 5 subject``, or the subject alone."""
        return f"> {format_number(self.above)} {subject}" if self.above is not None else subject or "SQL"

    def exactly(self) -> str:
        """The query."""
        return f"SQL: `{' '.join(self.query.split())}`"


def ask(
    connection: duckdb.DuckDBPyConnection, statement: str, at_us: int
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Column names and rows of a guarded statement, with ``now`` bound to ``at_us`` where it is used."""
    now = {"now": datetime.fromtimestamp(at_us // SECOND_US, UTC)} if "$now" in statement else {}
    result = connection.execute(statement, now)
    return [column[0] for column in result.description or ()], result.fetchall()


def _label(value: object) -> str:
    return "" if value is None else str(value)
