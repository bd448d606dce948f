"""Line -> event: the reference parser, and the table of the dialects it reads.

``parse_line`` is the truth about a line; the vectorised path must give equal results. To add a dialect,
write its function in ``programs.py`` and add a line to ``DIALECTS``.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import orjson

from tocsin_server.columns import Event
from tocsin_server.dialects import programs
from tocsin_server.dialects.build import build_event, note
from tocsin_server.dialects.levels import LEVELS
from tocsin_server.dialects.line import (
    MAX_DEPTH,
    MAX_LINE_BYTES,
    REASONS,
    Context,
    Fields,
    LineError,
    Parsed,
    Rejected,
)
from tocsin_server.dialects.strictjson import map_strings, parse_json
from tocsin_server.dialects.text import plain_text, sidekiq_text
from tocsin_server.dialects.times import timestamp_us

__all__ = [
    "DIALECTS",
    "LEVELS",
    "MAX_LINE_BYTES",
    "REASONS",
    "WRAPPERS",
    "Context",
    "Parsed",
    "Rejected",
    "finish",
    "is_certain",
    "parse_line",
    "strip_bom",
    "timestamp_us",
]

Test = Callable[[Fields], bool]


def _has(*names: str) -> Test:
    wanted = frozenset(names)
    return lambda fields: wanted <= fields.keys()


def _canonical(fields: Fields) -> bool:
    if "metric" in fields:
        return True
    if "event" in fields or "levelname" in fields:
        return False
    request = "request_id" in fields and "method" in fields and "ts" not in fields and "time" not in fields
    return request or ("timestamp" in fields and "service" in fields)


def _node(fields: Fields) -> bool:
    return "level" in fields and "time" in fields and ("msg" in fields or "pid" in fields)


def _string_event(fields: Fields) -> bool:
    return type(fields.get("event")) is str and ("level" in fields or "timestamp" in fields)


#: Dialects of JSON lines in the order in which they are tried: name -> (test on the fields, function of the
#: fields).
DIALECTS: dict[str, tuple[Test, Callable[[Fields], Fields]]] = {
    "canonical": (_canonical, programs.canonical),
    "otlp": (_has("resourceLogs"), programs.otlp),
    "loguru": (lambda f: type(f.get("record")) is dict and "text" in f, programs.loguru),
    "sidekiq": (_has("ts", "pid", "tid", "lvl", "msg"), programs.sidekiq),
    "bunyan": (_has("v", "level", "name", "hostname", "time"), programs.bunyan),
    "pino": (_node, programs.pino),
    "go-kit": (_has("ts", "level", "caller"), programs.go_kit),
    "zap": (lambda f: type(f.get("ts")) in (int, float) and "level" in f and "msg" in f, programs.zap),
    "structlog": (_string_event, programs.structlog),
    "python-json-logger": (lambda f: "asctime" in f or "levelname" in f, programs.python_json_logger),
    "json": (lambda _f: True, programs.generic),
}

#: Wrappers, tried before: what prints one line of another program inside its own.
WRAPPERS: dict[str, tuple[Test, Callable[[Fields], tuple[str, Fields]]]] = {
    "docker": (lambda f: type(f.get("log")) is str and "stream" in f and "metric" not in f, programs.docker),
    "journald": (_has("MESSAGE", "__REALTIME_TIMESTAMP"), programs.journald),
}

_TAGS = re.compile(r"(?:\[[^\[\]]*\] )*")
_BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
#: A longer line is looked at by the reference alone.
_CERTAIN_BYTES = 8192
_FILLED_BY_OUTER = ("service", "environment", "level")


def parse_line(raw: bytes, context: Context) -> Parsed | Rejected | None:
    """One line, without its newline, as an event, a dead letter, or None if it is blank. Never raises.

    A line whose first byte after white space is ``{`` must be a JSON object within the limits, a line that
    is another JSON value is no object: both are dead letters otherwise. Every other line is a ``log``.
    """
    if raw[-1:] == b"\r":
        raw = raw[:-1]
    try:
        return _parse(raw, context)
    except LineError as error:
        return Rejected(error.reason)


def is_certain(raw: bytes) -> bool:
    """Whether ``parse_line`` certainly makes an event of this line, said at a tenth of its price."""
    if raw[:1] != b"{" or len(raw) > _CERTAIN_BYTES or raw.count(b"{") + raw.count(b"[") > MAX_DEPTH:
        return False
    try:
        return _canonical(orjson.loads(raw))
    except orjson.JSONDecodeError:
        return False


def finish(event: Event, newest_ts: int | None) -> Event:
    """Gives an event without a time the newest one before it in its source, else the time of receipt; marks
    it.

    ``newest_ts`` was corrected for clock skew when its own line was parsed, so no correction happens here.
    """
    if event.ts is None:
        event.ts = event.received_at if newest_ts is None else newest_ts
        note(event, ts_inferred=True)
    return event


def strip_bom(start: bytes) -> bytes:
    """The start of a stream (offset 0) without its UTF-8 byte order mark, if it has one."""
    return start.removeprefix(b"\xef\xbb\xbf")


def _parse(raw: bytes, context: Context) -> Parsed | None:
    first = raw[:1]
    if first != b"{":
        first = raw.lstrip()[:1]
        if not first:
            return None
        if raw[:2] in _BYTE_ORDER_MARKS or raw[:3] in _BYTE_ORDER_MARKS:
            raise LineError("byte_order_mark")
    if b"\x00" in raw and raw.replace(b"\x00", b"").lstrip()[:1] == b"{":
        raise LineError("nul_bytes")
    if first == b"{":
        return _parse_object(raw, context)
    if first in b'["-0123456789tfn' and len(raw) <= MAX_LINE_BYTES and _is_json(raw):
        raise LineError("not_object")
    return _parse_text(raw, context)


def _is_json(raw: bytes) -> bool:
    try:
        parse_json(raw)
    except LineError as error:
        if error.reason in ("too_deep", "number_too_long"):
            raise
        return False
    return True


def _parse_object(raw: bytes, context: Context) -> Parsed:
    if len(raw) > MAX_LINE_BYTES:
        raise LineError("too_long")
    fields, replaced = parse_json(raw)
    name, fields = _understand(fields)
    if b"u0000" in raw:
        fields = map_strings(fields, _escape_nul)
    event = build_event(fields, context)
    if replaced:
        note(event, encoding_replaced=True)
    return Parsed(event, name)


def _escape_nul(text: str) -> str:
    return text.replace("\x00", "\\u0000")


def _understand(fields: Fields) -> tuple[str, Fields]:
    """The canonical fields of a JSON object, out of a wrapper and out of its own message, and the dialect's
    name.
    """
    for name, (test, unwrap) in WRAPPERS.items() if not _canonical(fields) else ():
        if test(fields):
            line, around = unwrap(fields)
            return name, _around(around, _line_fields(line))
    return _nested(fields)


def _line_fields(line: str) -> Fields:
    if line.lstrip()[:1] == "{":
        inner = parse_json(line.encode("utf-8", "replace"))[0]
        return _nested(inner)[1]
    return sidekiq_text(line) or plain_text(line)


def _nested(fields: Fields) -> tuple[str, Fields]:
    name, fields = _translate(fields)
    message = fields.get("message")
    if type(message) is not str or message[:1] not in "{[ \t\r\n" or "metric" in fields:
        return name, fields
    tags_end = _TAGS.match(message).end()  # type: ignore[union-attr]  # the pattern matches the empty string
    inner = _object_or_none(message[tags_end:])
    if inner is None:
        return name, fields
    del fields["message"]
    if tags_end:
        fields["log_tags"] = message[: tags_end - 1]
    return ("rails" if name == "canonical" else name), _around(fields, _translate(inner)[1])


def _object_or_none(text: str) -> Fields | None:
    if text.lstrip(" \t\r\n")[:1] != "{":
        return None
    try:
        value = parse_json(text.encode("utf-8", "replace"))[0]
    except LineError:
        return None
    return value if isinstance(value, dict) else None


def _translate(fields: Fields) -> tuple[str, Fields]:
    for name, (test, translate) in DIALECTS.items():
        if test(fields):
            return name, translate(fields)
    raise AssertionError("the last dialect takes every object")


def _around(outer: Fields, inner: Fields) -> Fields:
    """The inner fields, which win, and the outer ones; the outer time holds only where the inner one says
    nothing.
    """
    if "timestamp" in outer and timestamp_us(inner.get("timestamp")) is None:
        inner.pop("timestamp", None)
    for key, value in outer.items():
        if inner.get(key) is None:
            inner[key] = value
    return inner


def _parse_text(raw: bytes, context: Context) -> Parsed:
    raw = raw[:MAX_LINE_BYTES]
    text = raw.decode("utf-8", "replace")
    replaced = "\ufffd" in text and text.encode() != raw
    if "\x00" in text:
        text = _escape_nul(text)
    fields = sidekiq_text(text)
    name = "text" if fields is None else "sidekiq"
    event = build_event(plain_text(text) if fields is None else fields, context)
    if replaced:
        note(event, encoding_replaced=True)
    return Parsed(event, name)
