"""Typed selections over events, and the range query of the evaluator.

A :class:`Selection` says which events count; it compiles to SQL over the relation ``events`` with every
value bound and every field name checked. :func:`bucketed` reads a whole range of evaluation instants in one
pass: it counts in buckets as wide as the evaluation step and returns them per label set; the functions at
the end turn buckets into sliding windows ``T - W < ts <= T``. A live evaluation is the same call with a
:class:`Grid` of one instant.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import duckdb
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, BeforeValidator, ConfigDict, InstanceOf, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError

from tocsin_server.clock import SECOND_US
from tocsin_server.columns import COLUMNS

#: Width of a bucket and distance of two evaluation instants, in microseconds.
STEP_US = 30 * SECOND_US

#: Label name -> value, sorted by name: what identifies an alert instance within its rule.
Labels = tuple[tuple[str, str], ...]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


# --- selections -----------------------------------------------------------------------------------------


class Model(BaseModel):
    """A part of a file that people write: unknown keys are faults, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True)


Operator = Literal["in", "prefix", "<", "<=", ">", ">=", "!="]
Scalar = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Matcher:
    """What a field must be: one of ``values``, a text with a prefix, or a number compared with one."""

    operator: Operator
    values: tuple[Scalar, ...]

    def __str__(self) -> str:
        """As people read it: ``>= 500``, ``success``, ``a or b``, ``ai-gateway*``."""
        words = " or ".join(str(v).lower() if isinstance(v, bool) else str(v) for v in self.values)
        return {"in": words, "prefix": words + "*"}.get(self.operator, f"{self.operator} {words}")


_COMPARISON = re.compile(r"(<=|>=|<|>|!=)\s*(.+)")


def _matcher(value: object) -> Matcher:
    values: list[Any] = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(v, bool | int | float | str) for v in values):
        raise PydanticCustomError(
            "matcher", "is not a value, a list of values or a comparison", _MATCHER_HINT
        )
    if isinstance(value, str) and (compared := _COMPARISON.fullmatch(value)):
        return _comparison(compared[1], compared[2])
    if isinstance(value, str) and value.endswith("*"):
        return Matcher("prefix", (value[:-1],))
    return Matcher("in", tuple(values))


_MATCHER_HINT = {"hint": 'write a value, a list, ">= 500", "!= text" or "prefix*"'}


def _comparison(operator: str, operand: str) -> Matcher:
    if operator == "!=":
        return Matcher("!=", (operand,))
    try:
        number = float(operand)
    except ValueError:
        number = float("nan")
    if not np.isfinite(number):
        reason = {"operand": operand, **_MATCHER_HINT}
        raise PydanticCustomError("matcher", "`{operand}` is not a number to compare with", reason)
    return Matcher(operator, (int(number) if number.is_integer() else number,))  # type: ignore[arg-type]  # checked


_MATCHER_SCHEMA = {"anyOf": [{"type": kind} for kind in ("string", "number", "boolean", "array")]}
FieldName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.]{0,63}$")]
EventName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.:-]{0,99}$")]
Filters = dict[
    FieldName, Annotated[InstanceOf[Matcher], BeforeValidator(_matcher), WithJsonSchema(_MATCHER_SCHEMA)]
]


class Selection(Model):
    """Which events count: of this name, where every matcher of ``where`` holds and none of ``unless``."""

    event: EventName
    where: Filters = {}
    unless: Filters = {}


# --- SQL ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sql:
    """SQL text with its positional parameters, in the order of its question marks."""

    text: str
    params: tuple[Any, ...] = ()


def field_sql(field: str) -> str:
    """The expression that reads ``field``: a column, else a text from ``attrs``."""
    return f'"{field}"' if field in COLUMNS else f"""(attrs->>'$."{field}"')"""


def number_sql(field: str, sql_type: str = "DOUBLE") -> str:
    """``field`` as a number, NULL when it is none."""
    return f"TRY_CAST({field_sql(field)} AS {sql_type})"


def label_sql(field: str) -> str:
    """``field`` as a label value: text, the empty string when it is missing."""
    return f"COALESCE(CAST({field_sql(field)} AS VARCHAR), '')"


def matcher_sql(field: str, matcher: Matcher) -> Sql:
    """A condition that is TRUE or FALSE, never NULL: a missing field meets only ``!=``."""
    if matcher.operator == "in":
        return _any_of([_equals(field, value) for value in matcher.values])
    if matcher.operator == "prefix":
        return Sql(f"COALESCE(starts_with({label_sql(field)}, ?), false)", matcher.values)
    if matcher.operator == "!=":
        return Sql(f"{label_sql(field)} <> ?", matcher.values)
    return Sql(f"COALESCE({number_sql(field)} {matcher.operator} ?, false)", matcher.values)


def selection_sql(selection: Selection) -> Sql:
    """The WHERE condition of a selection."""
    parts = [Sql("name = ?", (selection.event,)), all_of(selection.where), none_of(selection.unless)]
    return _joined(parts, " AND ")


def all_of(filters: Mapping[str, Matcher]) -> Sql:
    """Every matcher holds (TRUE when there are none)."""
    return _joined([matcher_sql(*item) for item in filters.items()] or [Sql("true")], " AND ")


def none_of(filters: Mapping[str, Matcher]) -> Sql:
    """No matcher holds (TRUE when there are none)."""
    some = _any_of([matcher_sql(*item) for item in filters.items()] or [Sql("false")])
    return Sql(f"NOT {some.text}", some.params)


def filter_fault(field: str, matcher: Matcher) -> str:
    """Why ``matcher`` can never be asked of ``field``; empty when it can."""
    kind = COLUMNS.get(field, "JSON")
    if field in ("attrs", "ts", "received_at"):
        return "is no field to filter by"
    if kind == "BOOLEAN" and not (
        matcher.operator == "in" and all(isinstance(v, bool) for v in matcher.values)
    ):
        return "is true or false"
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in matcher.values)
    if kind in ("INTEGER", "BIGINT", "DOUBLE") and not (numbers or matcher.operator == "!="):
        return "is a number"
    if kind == "VARCHAR" and matcher.operator in ("<", "<=", ">", ">="):
        return "is text and cannot be compared with a number"
    return ""


def _equals(field: str, value: Scalar) -> Sql:
    if isinstance(value, bool):
        return Sql(f"COALESCE(CAST({field_sql(field)} AS VARCHAR) = ?, false)", (str(value).lower(),))
    if isinstance(value, int | float) and COLUMNS.get(field) != "VARCHAR":
        return Sql(f"COALESCE({number_sql(field)} = ?, false)", (value,))
    return Sql(f"COALESCE(CAST({field_sql(field)} AS VARCHAR) = ?, false)", (str(value),))


def _any_of(parts: list[Sql]) -> Sql:
    joined = _joined(parts, " OR ")
    return Sql(f"({joined.text})", joined.params)


def _joined(parts: list[Sql], separator: str) -> Sql:
    return Sql(separator.join(part.text for part in parts), tuple(p for part in parts for p in part.params))


# --- the range query ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Grid:
    """The evaluation instants ``from_us, from_us + step_us, …`` up to ``to_us``; microseconds, UTC.

    ``to_us`` becomes the last instant; a ``to_us`` before ``from_us`` makes an empty grid.
    """

    from_us: int
    to_us: int
    step_us: int = STEP_US

    def __post_init__(self) -> None:
        object.__setattr__(self, "to_us", self.to_us - (self.to_us - self.from_us) % self.step_us)

    def __len__(self) -> int:
        """Number of instants."""
        return max(0, (self.to_us - self.from_us) // self.step_us + 1)

    def instants(self) -> Ints:
        """Every instant."""
        return self.from_us + self.step_us * np.arange(len(self), dtype=np.int64)

    def width(self, duration_us: int) -> int:
        """Buckets in a window of ``duration_us``."""
        return duration_us // self.step_us

    def chunks(self, size: int) -> Iterator[Grid]:
        """The same instants in consecutive grids of at most ``size``."""
        span = size * self.step_us
        for start in range(self.from_us, self.to_us + 1, span):
            yield Grid(start, min(start + span - self.step_us, self.to_us), self.step_us)


#: Rows of the range query: per label set, the buckets that have events and the numbers in each. Bucket ``j``
#: (from 1) holds ``left + (j - 1) * step < ts <= left + j * step``; ``left`` = first instant - window.
Rows = dict[Labels, dict[str, Any]]


def bucketed(
    connection: duckdb.DuckDBPyConnection,
    where: Sql,
    by: Mapping[str, str],
    measures: Mapping[str, Sql],
    grid: Grid,
    window_us: int,
    keys: Mapping[str, str] | None = None,
) -> Rows:
    """The one range query: ``measures`` per label set and bucket, over the grid and the window before it.

    ``by`` maps label names to fields; ``keys`` maps further grouping columns to SQL (they come back as
    numbers do). Raises duckdb.Error when the query fails.
    """
    left, right = grid.from_us - window_us, grid.to_us
    keys = keys or {}
    columns = [*(f'{label_sql(field)} AS "label {label}"' for label, field in by.items())]
    columns += [f'{sql} AS "{key}"' for key, sql in keys.items()]
    columns += [f'{sql.text} AS "{name}"' for name, sql in measures.items()]
    inner = (
        f"SELECT {', '.join(['(epoch_us(ts) - ? + ? - 1) // ? AS bucket', *columns])} FROM events "
        f"WHERE {where.text} AND ts > make_timestamptz(?) AND ts <= make_timestamptz(?) GROUP BY ALL"
    )
    lists = ", ".join(f'list("{name}" ORDER BY bucket) AS "{name}"' for name in ("bucket", *keys, *measures))
    params = [left, grid.step_us, grid.step_us, *(p for sql in measures.values() for p in sql.params)]
    return _per_labels(connection, inner, lists, by, [*params, *where.params, left, right])


def bounds(
    connection: duckdb.DuckDBPyConnection,
    pick: Literal["min", "max"],
    where: Sql,
    by: Mapping[str, str],
    after_us: int | None,
    until_us: int,
) -> dict[Labels, int]:
    """First or last event time (µs) per label set with ``after_us < ts <= until_us``."""
    names = [f'{label_sql(field)} AS "label {label}"' for label, field in by.items()]
    after = Sql("true") if after_us is None else Sql("ts > make_timestamptz(?)", (after_us,))
    statement = (
        f"SELECT {', '.join([*names, f'epoch_us({pick}(ts)) AS at'])} FROM events "
        f"WHERE {where.text} AND {after.text} AND ts <= make_timestamptz(?) GROUP BY ALL HAVING count(*) > 0"
    )
    rows = connection.execute(statement, [*where.params, *after.params, until_us]).fetchall()
    return {labels_of(dict(zip(by, row, strict=False))): row[-1] for row in rows}


def labels_of(values: Mapping[str, str]) -> Labels:
    """Labels in their one order."""
    return tuple(sorted(values.items()))


def _per_labels(
    connection: duckdb.DuckDBPyConnection, inner: str, lists: str, by: Mapping[str, str], params: list[Any]
) -> Rows:
    names = [f'"label {label}"' for label in by]
    group = f"GROUP BY {', '.join(names)}" if names else ""
    statement = f"SELECT {', '.join([*names, lists])} FROM ({inner}) {group} HAVING count(*) > 0"
    table = connection.execute(statement, params).fetchnumpy()
    rows: Rows = {}
    for index in range(len(table["bucket"])):
        labels = labels_of({label: table[f"label {label}"][index] for label in by})
        rows[labels] = {name: table[name][index] for name in table if not name.startswith("label ")}
    return rows


# --- windows --------------------------------------------------------------------------------------------


def dense(buckets: Ints, values: npt.NDArray[Any], size: int) -> Ints:
    """Sums of ``values`` for the buckets 1…size."""
    return np.bincount(buckets - 1, weights=values, minlength=size).astype(np.int64)


def sliding_sum(sums: Ints, width: int) -> Ints:
    """Sum of each run of ``width`` neighbours: the windows that end at each instant."""
    total = np.concatenate((np.zeros(1, np.int64), np.cumsum(sums)))
    return np.asarray(total[width:] - total[:-width], np.int64)


def latest(buckets: Ints, width: int, size: int) -> Ints:
    """For each instant the index of its newest row, -1 when the window has none (``buckets`` ascending)."""
    ends = np.arange(width, size + 1)
    newest = np.searchsorted(buckets, ends, side="right") - 1
    fresh = (newest >= 0) & (buckets[newest] > ends - width) if len(buckets) else np.zeros(len(ends), bool)
    return np.where(fresh, newest, -1)


def sliding_distinct(buckets: Ints, keys: npt.NDArray[Any], width: int, size: int) -> Ints:
    """Number of different keys in each window, given one row per (bucket, key)."""
    order = np.lexsort((buckets, _codes(keys)))
    buckets, codes = buckets[order], _codes(keys)[order]
    until = buckets + width
    again = np.flatnonzero(codes[1:] == codes[:-1])
    until[again] = np.minimum(until[again], buckets[again + 1])
    steps = np.zeros(size + width + 1, np.int64)
    np.add.at(steps, buckets, 1)
    np.add.at(steps, until, -1)
    return np.asarray(np.cumsum(steps)[width : size + 1], np.int64)


def _codes(keys: npt.NDArray[Any]) -> Ints:
    table: dict[Hashable, int] = {}
    return np.array([table.setdefault(key, len(table)) for key in keys.tolist()], np.int64)
