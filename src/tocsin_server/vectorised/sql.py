"""The SQL that parses the documents of one shape, and proves which of them are ordinary."""

from __future__ import annotations

from functools import cache

import orjson

from tocsin_server.columns import COLUMNS
from tocsin_server.dialects.levels import level_name
from tocsin_server.privacy import key_kind
from tocsin_server.privacy.fields import IDENTIFIER
from tocsin_server.vectorised.shapes import LINE_FIELDS, Field, Shape

#: What no bare number can be: it has a letter other than e.
_HEXADECIMAL = "[0-9a-f-]*[a-df][0-9a-f-]*|[0-9A-Z-]*[A-DF-Z][0-9A-Z-]*"
_PLAIN_IDENTIFIER = '"[0-9a-f-]+"|"[0-9A-Z-]+"'
_PLAIN_WORD = '"[a-z][a-z_-]{0,39}"'

_LEVEL_NAMES = ("DEBUG", "INFO", "WARN", "WARNING", "ERROR", "FATAL", "CRITICAL")
#: Level as it is printed -> what is stored.
_LEVELS = {name: level_name(name) for upper in _LEVEL_NAMES for name in (upper, upper.lower())}


def _whole_number(value: str) -> str:
    return f"(TRY_CAST({value} AS BIGINT)::VARCHAR = {value})"


def _number(field: Field) -> str:
    value, double = field.alias, f"TRY_CAST({field.alias} AS DOUBLE)"
    padded = f"{value} LIKE '%.0' OR {value} LIKE '0.00%' OR contains({value}, 'e')"
    verbatim = f"CASE WHEN {padded} THEN contains(document, '\"{field.name}\":' || {value}) ELSE true END"
    return f"(strlen({value}) <= 15 AND {double} >= 0 AND isfinite({double}) AND {verbatim})"


def _proof(field: Field, shape: Shape) -> str | None:
    """SQL that is true when the field is of its type and cleaning it changes nothing; None: shown
    elsewhere.
    """
    value = field.alias
    if field.type == "metric":
        return f"{value} = '{shape.event}'"
    if field.name == "level":
        return f"{value} IN ({', '.join(map(repr, _LEVELS))})"
    if field.name == "error" and shape.event == "api.request":
        return "false"  # an exception that escaped decides the status: the reference's rule
    if field.name in ("status", "http_status") and field.type == "integer":
        return f"({_whole_number(value)} AND strlen({value}) = 3 AND {value} >= '100')"
    if field.type == "integer":
        return _whole_number(value) + (f" AND {value} NOT LIKE '-%'" if field.column else "")
    if field.type == "number":
        return _number(field)
    if field.type == "boolean":
        return f"{value} IN ('true', 'false')"
    if field.name in ("request_id", "event_id"):
        return f"(strlen({value}) BETWEEN 16 AND 64 AND regexp_full_match({value}, '{_HEXADECIMAL}'))"
    if field.column is None:
        pattern = _PLAIN_IDENTIFIER if key_kind(field.name) == IDENTIFIER else _PLAIN_WORD
        return f"(regexp_full_match({value}, '{pattern}') AND strlen({value}) <= 64)"
    if field.name == "message":
        return f"({value} LIKE '\"%' AND {value} <> '\"\"' AND NOT contains({value}, '\\u'))"
    if field.type == "id":
        quoted = f"{value} LIKE '\"%' AND {value} <> '\"\"' AND NOT contains({value}, '\\')"
        return f"(({quoted}) OR {_whole_number(value)})"
    return None  # its distinct values are looked at one by one, its time is NULL unless it is one


def _value(field: Field) -> str:
    """SQL for the column's value of a field that passed its proof."""
    if field.column == "message":
        return f"CASE WHEN contains({field.alias}, '\\') THEN {_MESSAGE} ELSE {field.alias}[2:-2] END"
    if field.column == "path":
        # Cleaning makes `:id` of these segments too; done here, few distinct paths are left to clean.
        return f"regexp_replace({field.alias}, '/[0-9]+(/|$)', '/:id\\1', 'g')"
    if field.column == "tenant_id":
        return f"trim({field.alias}, '\"')"
    if field.type in ("text", "id"):
        return field.alias
    return f"TRY_CAST({field.alias} AS {COLUMNS[field.column or '']})"


def _level(value: str) -> str:
    whens = " ".join(f"WHEN '{name}' THEN '{level}'" for name, level in _LEVELS.items())
    return f"CASE {value} {whens} END"


def _timestamp(value: str) -> str:
    """µs of the two spellings that the canonical and the Rails lines use; NULL for any other."""
    zulu = f"try_strptime({value}, '%Y-%m-%dT%H:%M:%S.%gZ')"
    offset = f"try_strptime({value}, '%Y-%m-%dT%H:%M:%S.%g+00:00')"
    return f"epoch_us(CASE strlen({value}) WHEN 24 THEN {zulu} WHEN 29 THEN {offset} END)"


def _status(shape: Shape) -> tuple[str, str, str]:
    """SQL for status, http_status and name (``product.md``: Kinds, Status)."""
    if shape.event and shape.event != "api.request":
        status = next((f.alias for f in shape.fields if f.name == "status"), "NULL::VARCHAR")
        code = next(
            (f"TRY_CAST({f.alias} AS INTEGER)" for f in shape.fields if f.name == "http_status"),
            "NULL::INTEGER",
        )
        return status, code, f"'{shape.event}'"
    code = f"TRY_CAST({'t' if shape.event else 'f'}_status AS INTEGER)"
    status = f"CASE WHEN {code} < 500 THEN 'success' WHEN {code} >= 500 THEN 'error' END"
    is_request = "f_request_id IS NOT NULL AND f_method IS NOT NULL AND f_status IS NOT NULL"
    name = "'api.request'" if shape.event else f"CASE WHEN {is_request} THEN 'http.request' ELSE 'log' END"
    return status, code, name


#: The text of a line's message. It is read as JSON text, because a message may have escapes. A line's other
#: fields may not: an escape makes a text shorter than it stands in the line.
_MESSAGE = "(f_message::JSON ->> '$')"
#: Tags as Rails prints them before a message.
TAGS = r"(\[[^\[\]]*\] )*"
#: Whether a message is a document, or holds one behind tags.
_NESTED = f"(f_message LIKE '\"{{%' OR regexp_matches({_MESSAGE}, '^{TAGS}[ \\t\\r\\n]*\\{{'))"
#: A line around a document has nothing else but these.
_OUTER = ("timestamp", "level", "message", "service", "environment")
_OUTER_ONLY = " AND ".join(f"{f.alias} IS NULL" for f in LINE_FIELDS if f.name not in _OUTER)
_INSIDE = f"CASE WHEN balanced AND proven AND {_OUTER_ONLY} AND {_NESTED} THEN {_MESSAGE} END"
#: What a document takes from the line around it.
OUTER_COLUMNS = {
    "outer_ts": "BIGINT",
    "outer_service": "VARCHAR",
    "outer_environment": "VARCHAR",
    "outer_level": "VARCHAR",
    "outer_tags": "VARCHAR",
}
INPUT = "$input"
_YEAR_1 = -62_135_596_800_000_000  # µs; the reference knows no earlier time


@cache
def stage(shape: Shape, ends_with_newline: bool, newest_us: int) -> str:
    """SQL that parses the documents of :data:`INPUT` into columns, and says which ones are proven
    ordinary.
    """
    is_line = not shape.event
    top, tags = (
        {f.name: _read_as(f) for f in shape.fields if f.nested is nested} for nested in (False, True)
    )
    wanted = orjson.dumps(top | ({"tags": tags} if tags else {})).decode()
    leaves = ", ".join(
        f'parsed.{"tags." if f.nested else ""}"{f.name}"::VARCHAR AS {f.alias}' for f in shape.fields
    )
    status, http_status, name = _status(shape)
    computed = {
        "name": name,
        "status": status,
        "http_status": http_status,
        "service": "coalesce(f_service, outer_service)",
        "environment": "coalesce(f_environment, outer_environment)",
        "level": f"coalesce({_level('f_level')}, outer_level)",
        "attrs": _attrs(shape),
        "inside": _INSIDE if is_line else "NULL",
        "ordinary": _ordinary(shape, newest_us),
    }
    values = {f.column: _value(f) for f in shape.fields if f.column and f.column not in (*computed, "ts")}
    listed = ", ".join(f"{expression} AS {column}" for column, expression in (values | computed).items())
    proofs = [f"({f.alias} IS NULL OR {proof})" for f in shape.fields if (proof := _proof(f, shape))]
    return (
        f"SELECT line, begins, ts_us, {listed}"
        f" FROM (SELECT *, {_cost(shape, ends_with_newline)} = strlen(document) AS balanced,"
        f" {' AND '.join(proofs)} AS proven,"
        f" CASE WHEN f_timestamp IS NULL THEN outer_ts ELSE {_timestamp('f_timestamp')} END AS ts_us"
        f" FROM (SELECT line, begins, document, {', '.join(OUTER_COLUMNS)}, {leaves}"
        f" FROM (SELECT *, json_transform(document, '{wanted}') AS parsed FROM ({INPUT}))))"
    )


def _read_as(field: Field) -> str:
    return "VARCHAR" if field.is_text else "JSON"


def _ordinary(shape: Shape, newest_us: int) -> str:
    """SQL that is true when all proofs hold.

    A line with a document in its message is not ordinary itself. An escape is allowed in a message only.
    """
    if shape.event:
        own = "f_metric IS NOT NULL AND NOT contains(document, '\\')"
    else:
        own = f"NOT coalesce({_NESTED}, false)"
    return f"coalesce(balanced AND proven AND {own} AND ts_us BETWEEN {_YEAR_1} AND {newest_us}, false)"


def _cost(shape: Shape, ends_with_newline: bool) -> str:
    """SQL for the length of a document in bytes that has the fields found, once each, and nothing else."""
    # A field costs its name, two quotes, a colon and a comma, a text two more quotes; an object two braces,
    # less the comma that its last field does not have.
    fields = [
        f"coalesce(strlen({f.alias}) + {len(f.name) + (6 if f.is_text else 4)}, 0)" for f in shape.fields
    ]
    tags = len('"tags":,') + 1 if any(f.nested for f in shape.fields) else 0
    return " + ".join([*fields, str(1 + tags + ends_with_newline)])


def _attrs(shape: Shape) -> str:
    """SQL for the JSON text of the fields that are no column, sorted by name; NULL when there are none."""
    members = {f.name: f.alias for f in shape.fields if f.column is None and not f.is_text}
    members["log_tags"] = "outer_tags"
    pairs = ", ".join(f"'\"{name}\":' || {value}" for name, value in sorted(members.items()))
    return f"'{{' || nullif(concat_ws(',', {pairs}), '') || '}}'"
