"""Events as rows: a page of those that match, their histogram, the lines around one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import duckdb

from tocsin_server.clock import SECOND_US
from tocsin_server.columns import COLUMNS
from tocsin_server.export.rows import as_json
from tocsin_server.query import Sql
from tocsin_server.sql import Result
from tocsin_server.web.charts import Buckets
from tocsin_server.web.filters import explore_url
from tocsin_server.web.params import HOUR_US, BadRequest, NotFound, TimeRange, parse_moment

PAGE_ROWS = 100
AROUND_ROWS = 20
_REQUEST_US = 15 * 60 * SECOND_US
_SELECTED = ", ".join(f'"{name}"' for name in COLUMNS)
_TYPES = ["TIMESTAMP WITH TIME ZONE" if kind == "TIMESTAMPTZ" else kind for kind in COLUMNS.values()]
_IN_SPAN = "ts > make_timestamptz(?) AND ts <= make_timestamptz(?)"


def histogram(
    connection: duckdb.DuckDBPyConnection,
    span: TimeRange,
    condition: Sql,
    url: Callable[[TimeRange], str],
) -> dict[str, Any]:
    """Matches over time; None where nothing at all was heard, which is not zero. ``url`` leads to a bar's."""
    buckets = Buckets.of(span)
    found = connection.execute(
        f"SELECT {buckets.sql} AS bucket, count(*) FILTER (WHERE {condition.text}) FROM events "
        f"WHERE {_IN_SPAN} GROUP BY bucket",
        [*condition.params, span.from_us, span.to_us],
    ).fetchall()
    clipped = [TimeRange(max(b.from_us, span.from_us), min(b.to_us, span.to_us)) for b in buckets.spans()]
    bars = [
        {**one.as_json(), "count": count, "url": url(one)}
        for one, count in zip(clipped, buckets.dense(dict(found)), strict=True)
    ]
    return {"bars": bars, "incomplete": buckets.incomplete(), "width_s": buckets.width // SECOND_US}


def matching(
    connection: duckdb.DuckDBPyConnection, span: TimeRange, condition: Sql, limit: int, older: str = ""
) -> Result:
    """Matching events, newest first; with ``older`` (:func:`place`) those after that place. BadRequest."""
    if older:
        at_us, _, event_id = older.partition("~")
        if not at_us.lstrip("-").isdecimal() or len(at_us) > 18:
            raise BadRequest("`older` is no place in the list: go back to the first page")
        text = f"{condition.text} AND (ts, event_id) < (make_timestamptz(?), ?)"
        condition = Sql(text, (*condition.params, int(at_us), event_id))
    select = f"SELECT {_SELECTED} FROM events WHERE {_IN_SPAN} AND {condition.text}"
    values = [span.from_us, span.to_us, *condition.params]
    return _run(connection, f"{select} ORDER BY ts DESC, event_id DESC", values, limit)


def place(result: Result) -> str:
    """Where the next page begins: ``<ts in µs>~<event_id>``; empty when there is none."""
    if not result.truncated:
        return ""
    last = dict(zip(result.columns, result.rows[-1], strict=True))
    seconds, rest = int(last["ts"].replace(microsecond=0).timestamp()), last["ts"].microsecond
    return f"{seconds * SECOND_US + rest}~{last['event_id']}"


def shown(result: Result) -> list[dict[str, Any]]:
    """Rows as JSON has them, without what is not there, with what the page says and links."""
    return [_shown({k: v for k, v in row.items() if v is not None}) for row in json.loads(as_json(result))]


def sentence(row: dict[str, Any]) -> str:
    """One event in one line: its message, or what it was and how it went."""
    if row.get("message"):
        return str(row["message"])
    went = [row.get(name) for name in ("method", "job_class", "provider", "model", "queue")]
    code = "#".join(filter(None, (row.get("controller"), row.get("action"))))
    went.insert(1, row.get("path") or row.get("route") or code)
    duration = row.get("duration_ms")
    took = None if duration is None else f"{duration:,.0f} ms"
    words = [*went, row.get("http_status") or row.get("status"), row.get("error"), took]
    said = " ".join(str(word) for word in words if word)
    return said or json.dumps(row.get("attrs") or {}, ensure_ascii=False)


def around(connection: duckdb.DuckDBPyConnection, span: TimeRange, event_id: str) -> dict[str, Any]:
    """``source`` and ``rows``: the lines before and after one line of it, newest first. Raises NotFound."""
    line = connection.execute(
        f"SELECT source, epoch_us(ts) FROM events WHERE event_id = ? AND {_IN_SPAN} LIMIT 1",
        [event_id, span.from_us, span.to_us],
    ).fetchone()
    if line is None:
        raise NotFound("no line with this id in this time range: widen the range, or it is no longer kept")
    source, at_us = line
    before = _beside(connection, span, source, at_us, event_id, "<=")
    after = _beside(connection, span, source, at_us, event_id, ">")
    return {"source": source, "rows": [*reversed(shown(after)), *shown(before)]}


def _beside(
    connection: duckdb.DuckDBPyConnection,
    span: TimeRange,
    source: str | None,
    at_us: int,
    event_id: str,
    side: str,
) -> Result:
    """Nearest first. Ids that Tocsin gave are in the order of the file; for others time is the order."""
    values: list[Any] = [source, span.from_us, span.to_us]
    if source is not None and event_id.startswith(f"{source}:"):
        key, mark = "event_id", f"starts_with(event_id, ?) AND event_id {side} ?"
        values += [f"{source}:", event_id]
    else:
        key, mark = "(ts, event_id)", f"(ts, event_id) {side} (make_timestamptz(?), ?)"
        values += [at_us, event_id]
    where = f"source IS NOT DISTINCT FROM ? AND {_IN_SPAN} AND {mark}"
    order = "DESC" if side == "<=" else "ASC"
    select = f"SELECT {_SELECTED} FROM events WHERE {where} ORDER BY {key} {order}"
    return _run(connection, select, values, AROUND_ROWS + (side == "<="))


def _run(connection: duckdb.DuckDBPyConnection, select: str, values: list[Any], limit: int) -> Result:
    rows = connection.execute(f"{select} LIMIT {limit + 1:d}", values).fetchall()
    return Result(list(COLUMNS), list(_TYPES), rows[:limit], len(rows) > limit)


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    at_us = parse_moment(row["ts"], 0)
    near = TimeRange(at_us - HOUR_US, at_us + HOUR_US)
    links = {"around": explore_url(near, around=row.get("event_id", ""))}
    if request_id := row.get("request_id"):
        span = TimeRange(at_us - _REQUEST_US, at_us + _REQUEST_US)
        links["request"] = explore_url(span, [f"request_id={request_id}"])
    return {"event": row, "sentence": sentence(row), "links": links}
