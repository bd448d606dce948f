"""The wire format: a record -> one line of UTF-8 JSON.

Three shapes: a metric event (fields under ``tags``), the flat gateway event (fields at the top level) and a
log line. Absent fields are absent, never null.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from tocsin.events import EVENTS

#: Longest line, its newline included.
LINE_BYTES = 64 * 1024

_SPEAKER = ("service", "environment")
#: Keys that say what a line is; a field of that name cannot take their place.
_RESERVED_FLAT = frozenset({"metric", "tags", "timestamp", *_SPEAKER})
_RESERVED_LOG = frozenset({"metric", "tags", "timestamp", "level", "message", *_SPEAKER})


def encode(record: dict[str, Any]) -> bytes:
    """The record as one line; its fields may be in any order."""
    given, name = record["fields"], record.get("metric")
    fields = {key: given[key] for key in printing_order(name)(tuple(given))}
    stamp = record.get("timestamp")
    speaker = {key: value for key in _SPEAKER if (value := record.get(key)) is not None}
    if name is None:
        return log_line(record["level"], record["message"], fields, stamp, speaker)
    return event_line(name, fields, stamp, speaker)


def event_line(name: str, fields: dict[str, Any], stamp: str | None, speaker: dict[str, str]) -> bytes:
    """A metric event as one line; fields in printing order, ``speaker``: service and environment."""
    when = {"timestamp": stamp, **speaker} if stamp else speaker
    if name in _FLAT:
        line = _dumps({"metric": name, **fields, **when})
    else:
        line = _dumps({"metric": name, "tags": fields, **when})
    if len(line) <= LINE_BYTES:
        return line
    return event_line(name, _shortened(fields, len(line)), stamp, speaker)


def log_line(
    level: str, message: str, fields: dict[str, Any], stamp: str | None, speaker: dict[str, str]
) -> bytes:
    """A log line; its fields are in printing order."""
    when = {"timestamp": stamp} if stamp else {}
    line = _dumps({**when, "level": level, "message": message, **speaker, **fields})
    if len(line) <= LINE_BYTES:
        return line
    return log_line(level, message, _shortened(fields, len(line)), stamp, speaker)


def printing_order(name: str | None) -> Callable[[tuple[str, ...]], tuple[str, ...]]:
    """The keys of an event, or of a log line (None), that are printed, first to last; one function for each.

    Catalogued fields come first, as the catalogue lists them; the others behind, as they were given.
    """
    return _ORDERS.get(name, _as_given)


def _as_given(keys: tuple[str, ...]) -> tuple[str, ...]:
    return keys


def _order(names: tuple[str, ...], reserved: frozenset[str]) -> Callable[[tuple[str, ...]], tuple[str, ...]]:
    def order(keys: tuple[str, ...]) -> tuple[str, ...]:
        ordered = dict.fromkeys((*(name for name in names if name in keys), *keys))
        return tuple(key for key in ordered if key not in reserved)

    return order


_FLAT = frozenset(name for name, event in EVENTS.items() if event.flat)
_ORDERS: dict[str | None, Callable[[tuple[str, ...]], tuple[str, ...]]] = {
    None: _order((), _RESERVED_LOG),
    **{
        name: _order(event.field_names, _RESERVED_FLAT if event.flat else frozenset())
        for name, event in EVENTS.items()
    },
}


def _shortened(fields: dict[str, Any], length: int) -> dict[str, Any]:
    """Without its largest fields, so that the rest of a line of ``length`` fits; ``truncated`` says so."""
    fields = dict(fields)
    sizes = {key: len(_dumps(value)) for key, value in fields.items()}
    for key in sorted(sizes, key=lambda key: sizes[key], reverse=True):
        if length <= LINE_BYTES - len(',"truncated":true'):
            break
        length -= sizes[key]
        del fields[key]
    return {**fields, "truncated": True}


def _dumps(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)
