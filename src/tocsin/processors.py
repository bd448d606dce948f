"""From what was emitted to what may be printed, in two steps.

``made_plain`` is done by whoever emits: it turns every value into plain data of bounded size, so that nothing
of the host is looked at later. ``Finisher`` is the emitter's own thread's: time, context and redaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from tocsin.config import NAME_CHARACTERS
from tocsin.events import EVENTS
from tocsin.redact import Redactor
from tocsin.scrub import scrub
from tocsin.values import STRING_BYTES, plain_fields, text

#: Nanoseconds since the epoch, UTC.
Clock = Callable[[], int]

#: Longest text that needs no further look, in characters; more fields than this get one, too.
SHORT_CHARACTERS = 128
FEW_FIELDS = 32

_SCALARS = frozenset((int, bool, type(None)))


#: What was emitted: a metric event (name), a log line (level, message), or both with the same fields: a
#: request, whose message is empty and made here. Then its fields, what was bound, and when it was
#: (nanoseconds since the epoch, UTC).
Captured = tuple[str | None, str | None, str | None, Mapping[str, Any], Mapping[str, Any], int]


def is_plain(fields: Mapping[str, Any]) -> bool:
    """Whether the fields are few short scalars, as nearly always: nothing needs to be done to them."""
    if len(fields) > FEW_FIELDS:
        return False
    for value in fields.values():
        kind = type(value)
        if kind is str:
            if len(value) > SHORT_CHARACTERS:
                return False
        elif kind is float:
            if value - value != 0.0:  # infinite, or not a number
                return False
        elif kind not in _SCALARS:
            return False
    return True


def made_plain(fields: dict[str, Any], redactor: Redactor) -> tuple[dict[str, Any], int]:
    """``fields`` as plain JSON values of bounded size, and about how many bytes they take."""
    plain = plain_fields(redactor.digests(fields))
    return plain, _size(plain)


def _size(value: Any) -> int:
    if isinstance(value, str):
        return 50 + len(value)
    if isinstance(value, dict):
        return 200 + sum(50 + len(key) + _size(item) for key, item in value.items())
    return 200 + sum(map(_size, value)) if isinstance(value, list) else 32


#: What may be printed: name, level, message; fields in printing order; time as ISO 8601 in UTC.
Finished = tuple[str | None, str, str | None, dict[str, Any], str]


class Finisher:
    """Adds time and context to what was captured, and takes out what may not be printed."""

    def __init__(self, redactor: Redactor) -> None:
        """``redactor`` knows what may not."""
        self._redactor = redactor
        self._ms, self._stamp = -1, ""

    def finish(self, captured: Captured) -> Finished:
        """What may be printed of ``captured``."""
        name, level, message, fields, context, ns = captured
        ms = ns // 1_000_000
        if ms != self._ms:
            self._ms, self._stamp = ms, timestamp(ns)
        stamp = self._stamp
        if context:
            fields = {**context, **fields}
        clean = self._redactor.fields(fields, stamp[:10], name)
        if message is not None:
            message = text(scrub(message)) if message or name is None else _request_text(clean)
            level = _label(level or "INFO").upper()
        if name is not None and name not in EVENTS:
            name = _label(name)
        return name, level or "INFO", message, clean, stamp


def _request_text(fields: Mapping[str, Any]) -> str:
    """What people read of a request: `GET /api/v1/courses 200`."""
    return f"{fields.get('method', '')} {fields.get('path', '')} {fields.get('status', '')}"


def short_message(message: str) -> str:
    """``message``, cut before it waits in memory: at a space, so that scrubbing sees whole words."""
    return message if len(message) <= STRING_BYTES // 4 else text(message)


def _label(value: str) -> str:
    return value if value.isascii() and len(value) <= NAME_CHARACTERS else text(value[:NAME_CHARACTERS])


def timestamp(ns: int) -> str:
    """``ns`` since the epoch as ``2026-11-23T07:55:12.345Z``; milliseconds are cut, never rounded up."""
    seconds, rest = divmod(ns, 1_000_000_000)
    return f"{_second(seconds)}.{rest // 1_000_000:03d}Z"


@lru_cache(maxsize=8)
def _second(seconds: int) -> str:
    """Cached, because the lines of one second share it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
