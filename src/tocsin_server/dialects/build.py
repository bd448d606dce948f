"""Canonical fields -> event: kind, time, types, aliases, status, clock skew. Every dialect ends here."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from tocsin.events import ALIASES, field_name
from tocsin_server.columns import Event
from tocsin_server.dialects.attributes import attributes, cut
from tocsin_server.dialects.levels import level_name
from tocsin_server.dialects.line import MAX_STRING_BYTES, Context, Fields
from tocsin_server.dialects.times import timestamp_us
from tocsin_server.privacy import COLUMN_CLEANERS, head, identifier

REQUEST_EVENTS = frozenset(("api.request", "http.request"))
MIN_EVENT_ID_CHARS = 16
_CACHED_CHARS = 256
_CUT_CHARS = MAX_STRING_BYTES // 8  # scrubbing may lengthen a text, and a character has up to four bytes
_MAX_INT64 = 2**63 - 1

Convert = Callable[[Any], Any]


#: Text column -> its cleaner for short values; values that repeat are remembered (ids do not repeat).
_SHORT_TEXT: dict[str, Callable[[str], str]] = {
    column: cleaner if cleaner is identifier else lru_cache(maxsize=16_384)(cleaner)
    for column, cleaner in COLUMN_CLEANERS.items()
    if column not in ("name", "event_id")
}
_event_name = lru_cache(maxsize=4096)(COLUMN_CLEANERS["name"])


def _text(column: str) -> Convert:
    """Text or an integer, cleaned; an empty text is no value."""

    def convert(value: Any) -> str | None:
        if type(value) is int:
            return _SHORT_TEXT[column](str(value))
        return COLUMN_CLEANERS[column](value) if type(value) is str and value else None

    return convert


def _duration(value: Any) -> float | None:
    return float(value) if (type(value) is float or type(value) is int) and value >= 0 else None


def _tokens(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= _MAX_INT64 else None


def _http_status(value: Any) -> int | None:
    return value if type(value) is int and 100 <= value <= 999 else None


def _flag(value: Any) -> bool | None:
    return value if type(value) is bool else None


#: Column -> how a field of that name becomes its value; None means that the value is of no use there.
_CONVERT: dict[str, Convert] = {
    **{column: _text(column) for column in _SHORT_TEXT},
    "level": level_name,
    "http_status": _http_status,
    "duration_ms": _duration,
    "tokens": _tokens,
    "probe": _flag,
    "streaming": _flag,
}


def build_event(fields: Fields, context: Context) -> Event:
    """The event that these fields are; ``fields`` is consumed.

    ``metric`` makes a metric event and its ``tags`` win over the fields beside them; ``request_id``,
    ``method`` and ``status`` without ``metric`` make an ``http.request``; anything else is a ``log``. A
    value of no use in its column (``duration_ms: "abc"``, a negative duration) stays in ``attrs`` under its
    name, like every unknown field.
    """
    event = Event(received_at=context.received_at)
    event.name, fields = _kind(fields)
    stamp = fields.pop("timestamp", None)
    event.ts = timestamp_us(stamp)
    if event.ts is None and stamp is not None:
        fields["timestamp"] = stamp
    message_chars = len(text) if type(text := fields.get("message")) is str else 0
    if message_chars > MAX_STRING_BYTES:
        fields["message"] = head(fields["message"], MAX_STRING_BYTES)
    rest = _fill_columns(event, fields)
    _fill_ids(event, rest, context)
    if event.name in REQUEST_EVENTS:
        _set_http_status(event)
    if event.service is None and context.service is not None:
        event.service = context.service
    if event.environment is None and context.environment is not None:
        event.environment = context.environment
    if rest:
        at = context.received_at if event.ts is None else event.ts
        event.attrs = attributes(rest, context, event.tenant_id, at) or None
    if message_chars > _CUT_CHARS:
        _cut_message(event, message_chars)
    if event.ts is not None and context.skew_limit_us is not None:
        _correct_skew(event, context.received_at, context.skew_limit_us)
    return event


def note(event: Event, **marks: Any) -> None:
    """Adds Tocsin's own marks (``ts_inferred``, ``encoding_replaced``, …) to ``attrs``."""
    event.attrs = {**(event.attrs or {}), **marks}


def _kind(fields: Fields) -> tuple[str, Fields]:
    metric = fields.get("metric")
    if type(metric) is not str or not metric:
        request = "request_id" in fields and "method" in fields and "status" in fields
        return ("http.request" if request else "log"), fields
    del fields["metric"]
    tags = fields.get("tags")
    if type(tags) is dict:
        del fields["tags"]
        fields = _with_tags(fields, tags)
    return _event_name(metric[:_CACHED_CHARS]), fields


def _with_tags(fields: Fields, tags: Fields) -> Fields:
    """Tags win, except over the time of the line itself."""
    stamp = fields.get("timestamp")
    fields.update(tags)
    if stamp is not None:
        fields["timestamp"] = stamp
    return fields


def _fill_columns(event: Event, fields: Fields) -> Fields:
    """Sets the columns and returns what did not fit: unknown fields and values of no use in their column."""
    rest: Fields = {}
    for key, value in fields.items():
        cleaner = _SHORT_TEXT.get(key)
        if cleaner is not None and type(value) is str and 0 < len(value) <= _CACHED_CHARS:
            setattr(event, key, cleaner(value))
            continue
        convert = _CONVERT.get(key)
        if convert is None and key in ALIASES:
            known = field_name(event.name or "", key)
            if known not in fields:
                key, convert = known, _CONVERT.get(known)
        if convert is None:
            rest[key] = value
        elif value is not None:
            converted = convert(value)
            if converted is not None:
                setattr(event, key, converted)
            elif value != "":
                rest[key] = value
    return rest


def _fill_ids(event: Event, rest: Fields, context: Context) -> None:
    user = rest.pop("user_id", None)
    if type(user) is str or type(user) is int or type(user) is float:
        event.user_id = context.pseudonym(event.tenant_id, str(user)) if user != "" else None
    elif user is not None:
        rest["user_id" if type(user) is bool else "user"] = user
    own = rest.get("event_id")
    if type(own) is str and len(own) >= MIN_EVENT_ID_CHARS:
        del rest["event_id"]
        event.event_id = own if identifier(own) == own else context.pseudonym(None, own)


def _set_http_status(event: Event) -> None:
    """A numeric status is the HTTP status; an exception that escaped is 500; the text is error from 500
    on.
    """
    status = event.status
    if status is not None and len(status) == 3 and status.isdecimal() and status >= "100":
        event.http_status, event.status = int(status), None
    elif status is None and event.http_status is None and event.error is not None:
        event.http_status = 500
    if event.status is None and event.http_status is not None:
        event.status = "error" if event.http_status >= 500 else "success"


def _cut_message(event: Event, message_chars: int) -> None:
    text = event.message or ""
    event.message = cut(text)
    if event.message is not text or message_chars > MAX_STRING_BYTES:
        note(event, message_truncated=True)


def _correct_skew(event: Event, received_at: int, limit_us: int) -> None:
    if event.ts is not None and event.ts > received_at + limit_us:
        note(event, ts_original=_iso_us(event.ts), clock_skew=True)
        event.ts = received_at


def _iso_us(at_us: int) -> str:
    seconds, micros = divmod(at_us, 1_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{micros:06d}Z"
