"""The events table: what one event is, column by column.

This is the one place that names the columns. The dialects fill an :class:`Event`, the store writes it, the
query guard and the documentation read the list (``docs/events.md`` is generated from it and from the event
catalogue).
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any


def _column(sql_type: str, meaning: str) -> Any:
    return field(default=None, metadata={"sql_type": sql_type, "meaning": meaning})


@dataclass(slots=True)
class Event:
    """One understood line. Times are microseconds since the epoch, UTC; absent values are None."""

    ts: int | None = _column("TIMESTAMPTZ", "event time")
    received_at: int | None = _column("TIMESTAMPTZ", "when Tocsin read the line")
    event_id: str | None = _column("VARCHAR", "the line's own id, else `<source>:<offset>`")
    source: str | None = _column("VARCHAR", "file or stream that the line came from")
    name: str | None = _column("VARCHAR", "event name (`api.request`, …), `http.request` or `log`")
    service: str | None = _column("VARCHAR", "the program that printed the line")
    environment: str | None = _column("VARCHAR", "production, staging, …")
    level: str | None = _column("VARCHAR", "debug, info, warn, error or fatal")
    message: str | None = _column("VARCHAR", "text of a log line, scrubbed")
    status: str | None = _column("VARCHAR", "success, error, failure, …")
    http_status: int | None = _column("INTEGER", "HTTP status code")
    duration_ms: float | None = _column("DOUBLE", "duration in milliseconds")
    tenant_id: str | None = _column("VARCHAR", "the district; not a person")
    user_id: str | None = _column("VARCHAR", "pseudonym, `u_` and 16 hex digits")
    request_id: str | None = _column("VARCHAR", "correlates the lines of one request")
    method: str | None = _column("VARCHAR", "HTTP method")
    path: str | None = _column("VARCHAR", "templated, without query string")
    route: str | None = _column("VARCHAR", "the framework's own route template")
    controller: str | None = _column("VARCHAR", "the code that answered")
    action: str | None = _column("VARCHAR", "its method")
    job_class: str | None = _column("VARCHAR", "background job's class")
    queue: str | None = _column("VARCHAR", "background job's queue")
    provider: str | None = _column("VARCHAR", "openai, google_classroom, saml, …")
    model: str | None = _column("VARCHAR", "AI model")
    tokens: int | None = _column("BIGINT", "tokens used")
    error: str | None = _column("VARCHAR", "class of the error")
    probe: bool | None = _column("BOOLEAN", "a health probe, not a person")
    streaming: bool | None = _column("BOOLEAN", "answered as a stream")
    attrs: dict[str, Any] | None = _column("JSON", "every other field")


#: Column name -> DuckDB type, in table order.
COLUMNS: dict[str, str] = {f.name: f.metadata["sql_type"] for f in fields(Event)}

#: Column name -> one line for the documentation.
MEANINGS: dict[str, str] = {f.name: f.metadata["meaning"] for f in fields(Event)}

#: Statement that makes an empty events table of this shape (tests, replay, the empty store).
CREATE_EVENTS = (
    "CREATE TABLE events (" + ", ".join(f'"{name}" {kind}' for name, kind in COLUMNS.items()) + ")"
)
