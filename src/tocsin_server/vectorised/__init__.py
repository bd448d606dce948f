"""The vectorised path: canonical and Rails-wrapped lines, parsed by DuckDB a chunk at a time.

It gives what the dialects (the reference) give, line for line, or it leaves the line to them. What makes a
line *ordinary* is proven, not guessed. DuckDB parses the line into the fields that its event is known to
have. Then the books of the line must balance, byte by byte: the fields found, with their names, quotes,
colons, commas and braces, are exactly as long as the line. A field that is unknown or given twice, white
space, a trailing comma or an escape would leave bytes over, and nothing may make up for them:

- no value is longer as DuckDB prints it than it is in the line. Only a number that is printed with padding
  zeros could be (``1e3`` is printed ``1000.0``), so such a number must stand in the line as printed;
- a text, for which two quotes are counted, was not bare. What could also be a bare number, literal, object or
  list is left to the reference.

An event's line with a backslash is never ordinary; a message may have escapes, but no ``\\u``. Every field
found is checked for its type.

Cleaning (``privacy.md``) is not written a second time in SQL: each distinct value of a column goes through
the same function that the reference calls.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass

import duckdb
import nanoarrow as na
import numpy as np
import numpy.typing as npt
import orjson

from tocsin_server.dialects.line import Context
from tocsin_server.privacy import KIND_CLEANERS, clean, key_kind
from tocsin_server.store.rows import BATCH
from tocsin_server.vectorised.shapes import LINE_SHAPE, SHAPES, Shape
from tocsin_server.vectorised.sql import INPUT, OUTER_COLUMNS, TAGS, stage

#: Longer documents go to the reference: its limits on strings then cannot matter here.
_MAX_DOCUMENT_BYTES = 8192

#: What is searched at once: it stays in the processor's cache.
_CACHED_BYTES = 1 << 18

#: Where the name of an event stands in a canonical metric line.
_NAME_AT = len('{"metric":"')

#: Columns whose cleaning changes ordinary values: rewritten through a table of their distinct values.
_REWRITTEN = frozenset(("message", "path", "route", "error"))
_SHOWN_AS_JSON = frozenset(("message", "tenant_id"))
_PROVEN_IN_SQL = frozenset(("level", "event_id", "request_id", "user_id"))

#: Texts that could be a bare JSON value where a quoted one is counted.
_MAYBE_BARE = re.compile(r"-?[0-9][0-9.eE+-]*|-?(?i:true|false|null|nan|inf|infinity)|[\[{].*", re.DOTALL)


@dataclass(slots=True)
class Ordinary:
    """What was parsed of a chunk: SELECTs of :data:`tocsin_server.store.rows.BATCH`, and, by line, which they
    are and their event times in µs.
    """

    selects: list[str]
    is_ordinary: npt.NDArray[np.bool_]
    times: npt.NDArray[np.int64]
    dialects: dict[str, int]


@dataclass(frozen=True, slots=True)
class Lines:
    """The lines of a chunk: ``starts[i]:starts[i + 1]`` are the bytes of line ``i`` with its newline."""

    data: bytes
    starts: npt.NDArray[np.int64]

    @classmethod
    def split(cls, data: bytes) -> Lines:
        """Splits at ``\\n`` and nowhere else; ``data`` ends with one."""
        whole = np.frombuffer(data, np.uint8)
        ends = (
            np.flatnonzero(whole[at : at + _CACHED_BYTES] == 10) + at
            for at in range(0, len(data), _CACHED_BYTES)
        )
        return cls(data, np.concatenate((np.zeros(1, np.int64), *(found + 1 for found in ends))))

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> bytes:
        return self.data[self.starts[index] : self.starts[index + 1] - 1]


def nothing(lines: Lines) -> Ordinary:
    """No line is taken for ordinary: all go to the reference."""
    return Ordinary([], np.zeros(len(lines), np.bool_), np.zeros(len(lines), np.int64), {})


def parse(connection: duckdb.DuckDBPyConnection, lines: Lines, context: Context, base: int) -> Ordinary:
    """Parses the ordinary ones of ``lines``; position 0 of the chunk is position ``base`` of the source."""
    kinds = _kinds(lines)
    return _Run(connection, context, base, len(lines)).all(_arrow(lines, kinds), set(kinds.tolist()) - {-1})


def _kinds(lines: Lines) -> npt.NDArray[np.int8]:
    """Index of the shape that each line seems to have, -1 for none; valid UTF-8 of a bounded length only.

    A guess by two words of eight bytes: that a line *is* of the shape is proven later.
    """
    if len(lines.data) < _NAME_AT + 16:
        return np.full(len(lines), -1, np.int8)
    words = np.ndarray((len(lines.data) - 7,), np.uint64, lines.data, strides=(1,))
    begins = lines.starts[:-1]
    first = words[np.minimum(begins, len(words) - 1)]
    named = words[np.minimum(begins + _NAME_AT, len(words) - 1)]
    kinds = np.full(len(lines), -1, np.int8)
    for index, shape in enumerate(SHAPES):
        like = first == _word(shape.prefix[:8])
        if shape.event:
            like &= named == _word(shape.prefix[_NAME_AT : _NAME_AT + 8])
        kinds[like] = index
    kinds[np.diff(lines.starts) > _MAX_DOCUMENT_BYTES] = -1
    if not lines.data.isascii():
        for at in np.flatnonzero(kinds >= 0).tolist():
            if not _is_utf8(lines[at]):
                kinds[at] = -1
    return kinds


def _word(text: str) -> np.uint64:
    return np.uint64(int.from_bytes(text.encode().ljust(8, b"\0"), sys.byteorder))


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _arrow(lines: Lines, kinds: npt.NDArray[np.int8]) -> na.Array:
    count = len(lines)
    fields = {"document": na.large_string(), "line": na.int32(), "kind": na.int8(), "begins": na.int64()}
    columns = [
        na.c_array_from_buffers(na.large_string(), count, [None, lines.starts, lines.data]),
        na.c_array_from_buffers(na.int32(), count, [None, np.arange(count, dtype=np.int32)]),
        na.c_array_from_buffers(na.int8(), count, [None, kinds]),
        na.c_array_from_buffers(na.int64(), count, [None, lines.starts[:-1].copy()]),
    ]
    return na.Array(na.c_array_from_buffers(na.struct(fields), count, [None], children=columns))


class _Run:
    """One chunk on one connection: the temporary tables live until the next chunk replaces them."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, context: Context, base: int, lines: int
    ) -> None:
        self._db = connection
        self._context = context
        self._base = base
        self._ordinary = Ordinary([], np.zeros(lines, np.bool_), np.zeros(lines, np.int64), {})

    def all(self, chunk: na.Array, kinds: set[int]) -> Ordinary:
        self._db.register("chunk", chunk)
        outer = ", ".join(f"NULL::{kind} AS {name}" for name, kind in OUTER_COLUMNS.items())
        for kind in sorted(kinds):
            relation = f"SELECT line, begins, document, {outer} FROM chunk WHERE kind = {kind}"
            self._shape(f"direct_{kind}", SHAPES[kind], relation, ends_with_newline=True)
        if LINE_SHAPE in kinds:
            self._wrapped(f"direct_{LINE_SHAPE}")
        self._db.unregister("chunk")
        return self._ordinary

    def _wrapped(self, table: str) -> None:
        """The documents inside the ``message`` of lines that are wrapped once, bare or behind tags, as Rails
        does.
        """
        cases = " ".join(f"WHEN starts_with(document, '{s.prefix}') THEN {i}" for i, s in enumerate(SHAPES))
        document = f"CASE WHEN inside LIKE '[%' THEN regexp_replace(inside, '^{TAGS}', '') ELSE inside END"
        self._db.execute(
            "CREATE OR REPLACE TEMP TABLE wrapped AS SELECT line, begins, document, ts_us AS outer_ts,"
            " service AS outer_service, environment AS outer_environment, level AS outer_level,"
            " CASE WHEN inside LIKE '[%' THEN left(inside, length(inside) - length(document) - 1) END"
            " AS log_tags,"
            f" CASE {cases} ELSE -1 END AS kind"
            f" FROM (SELECT *, {document} AS document FROM {table} WHERE inside IS NOT NULL)"
        )
        kinds = self._db.execute("SELECT DISTINCT kind FROM wrapped WHERE kind >= 0 ORDER BY kind").fetchall()
        if not kinds:
            return
        found = self._db.execute(
            "SELECT DISTINCT log_tags FROM wrapped WHERE log_tags IS NOT NULL"
        ).fetchall()
        tags = [row[0] for row in found]
        self._values(
            "clean_tags", tags, [orjson.dumps(_clean_attribute("log_tags", tag)).decode() for tag in tags]
        )
        for (kind,) in kinds:
            outer = ", ".join("clean AS outer_tags" if c == "outer_tags" else c for c in OUTER_COLUMNS)
            relation = (
                f"SELECT line, begins, document, {outer} FROM wrapped LEFT JOIN clean_tags ON raw = log_tags"
                f" WHERE kind = {kind}"
            )
            self._shape(f"inside_{kind}", SHAPES[kind], relation, ends_with_newline=False)

    def _shape(self, table: str, shape: Shape, relation: str, *, ends_with_newline: bool) -> None:
        limit = self._context.skew_limit_us
        newest = 1 << 62 if limit is None else self._context.received_at + limit
        select = stage(shape, ends_with_newline, newest)
        try:
            self._db.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS {select.replace(INPUT, relation)}")
        except duckdb.InvalidInputException:
            # A malformed document: only the valid ones, at the cost of a second parse.
            valid = f"SELECT * FROM ({relation}) WHERE json_valid(document)"
            self._db.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS {select.replace(INPUT, valid)}")
        values, conditions = self._unclean_labels(table, shape)
        where = "ordinary" + conditions
        rows = self._db.execute(f"SELECT line, ts_us FROM {table} WHERE {where}").fetchnumpy()
        found = rows["line"]
        if not len(found):
            return
        self._ordinary.is_ordinary[found] = True
        self._ordinary.times[found] = rows["ts_us"]
        dialect = "canonical" if ends_with_newline else "rails"
        self._ordinary.dialects[dialect] = self._ordinary.dialects.get(dialect, 0) + len(found)
        self._ordinary.selects.append(self._select(table, shape, where, values))

    def _unclean_labels(self, table: str, shape: Shape) -> tuple[dict[str, list[str]], str]:
        """Distinct values of the text columns, and SQL that leaves out rows with a value that is the
        reference's: a label that cleaning would change, or a text that may have been bare.
        """
        columns = [column for column in shape.columns("text", "id") if column not in _PROVEN_IN_SQL]
        distinct = (
            f"SELECT '{column}', * FROM (SELECT DISTINCT {column} FROM {table} WHERE ordinary)"
            for column in columns
        )  # one statement: DuckDB plans list(DISTINCT …) of many columns ten times as long
        values: dict[str, list[str]] = {column: [] for column in columns}
        for column, value in self._db.execute(" UNION ALL ".join(distinct)).fetchall():
            if value is not None:
                values[column].append(value)
        conditions = ""
        for column, texts in values.items():
            unclean = [text for text in texts if _is_unclean(column, text)]
            if unclean:
                self._values(f"{table}_unclean_{column}", unclean, unclean)
                conditions += (
                    f" AND ({column} IS NULL OR {column} NOT IN (SELECT raw FROM {table}_unclean_{column}))"
                )
        return values, conditions

    def _select(self, table: str, shape: Shape, where: str, values: dict[str, list[str]]) -> str:
        """The stored columns of the table's ordinary rows."""
        columns = {name: f"NULL::{kind}" for name, kind in BATCH.items()}
        own = {f.column for f in shape.fields if f.column}
        columns.update({name: f'{table}."{name}"' for name in own & BATCH.keys()})
        columns["name"] = f"{table}.name"
        columns["ts"] = f"make_timestamptz({table}.ts_us)"
        columns["position"] = f"{table}.begins + {self._base}"
        columns["own_id"] = f"{table}.event_id"
        columns["attrs"] = f"{table}.attrs"
        columns["status"] = f"{table}.status"
        columns["http_status"] = f"{table}.http_status"
        for column in ("service", "environment"):
            default = getattr(self._context, column)
            if default is not None:
                columns[column] = f"coalesce({table}.{column}, {_literal(default)})"
        joins = ""
        for column in _REWRITTEN & own:
            cleaned = [clean(column, value) for value in values[column]]
            if cleaned != values[column]:
                self._values(f"{table}_{column}", values[column], cleaned)
                joins += f" LEFT JOIN {table}_{column} ON {table}_{column}.raw = {table}.{column}"
                columns[column] = f"{table}_{column}.clean"
        if "user_id" in own:
            joins += self._pseudonyms(table, "tenant_id" in own)
            columns["user_id"] = f"{table}_users.clean"
        listed = ", ".join(f'{expression} AS "{name}"' for name, expression in columns.items())
        return f"SELECT {listed} FROM {table}{joins} WHERE {where}"

    def _pseudonyms(self, table: str, has_tenant: bool) -> str:
        tenant = "tenant_id" if has_tenant else "NULL"
        people = self._db.execute(
            f"SELECT DISTINCT {tenant}, user_id FROM {table} WHERE ordinary AND user_id IS NOT NULL"
        ).fetchall()
        cleaned = [self._context.pseudonym(tenant_id, user_id.strip('"')) for tenant_id, user_id in people]
        raw = [f"{tenant_id or ''}\n{user_id}" for tenant_id, user_id in people]
        self._values(f"{table}_users", raw, cleaned)
        person = f"coalesce({tenant}, '') || chr(10) || {table}.user_id"
        return f" LEFT JOIN {table}_users ON {table}_users.raw = {person}"

    def _values(self, table: str, raw: list[str], cleaned: list[str]) -> None:
        schema = na.struct({"raw": na.string(), "clean": na.string()})
        children = [na.c_array(raw, na.string()), na.c_array(cleaned, na.string())]
        array = na.Array(na.c_array_from_buffers(schema, len(raw), [None], children=children))
        self._db.register("new_values", array)
        self._db.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS SELECT * FROM new_values")
        self._db.unregister("new_values")


def _clean_attribute(key: str, text: str) -> str:
    return KIND_CLEANERS[key_kind(key)](text)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _is_unclean(column: str, text: str) -> bool:
    changed = column not in _REWRITTEN and clean(column, text) != text
    return not text or changed or (column not in _SHOWN_AS_JSON and _MAYBE_BARE.fullmatch(text) is not None)
