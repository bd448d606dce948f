"""The wire format: a record -> one line of UTF-8 JSON.

Three shapes: a metric event (fields under ``tags``), the flat gateway event (fields at the top level) and a
log line. Absent fields are absent, never null.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from tocsin.events import EVENTS

#: Longest line, its newline included.
LINE_BYTES = 64 * 1024

_ENVELOPE = ("timestamp", "service", "environment")
#: Keys that say what a line is; a field of that name cannot take their place.
_RESERVED_FLAT = frozenset({"metric", "tags", *_ENVELOPE})
_RESERVED_LOG = frozenset({"metric", "tags", "level", "message", *_ENVELOPE})

_FIELD_NAMES = {name: event.field_names for name, event in EVENTS.items()}


def encode(record: dict[str, Any]) -> bytes:
    """The record as one line that ends in its only newline; too long, it leaves out its largest fields."""
    line = _dumps(wire(record))
    return line if len(line) <= LINE_BYTES else _dumps(wire(_shortened(record, len(line))))


def wire(record: dict[str, Any]) -> dict[str, Any]:
    """The JSON object of a record, keys in canonical order."""
    if "metric" not in record:
        return _log_line(record)
    name = record["metric"]
    event = EVENTS.get(name)
    fields = record["fields"]
    if event is not None:
        fields = _in_order(fields, _FIELD_NAMES[name])
    if event is not None and event.flat:
        return {"metric": name, **_without(fields, _RESERVED_FLAT), **_present(record, _ENVELOPE)}
    return {"metric": name, "tags": fields, **_present(record, _ENVELOPE)}


def _log_line(record: dict[str, Any]) -> dict[str, Any]:
    envelope = _present(record, ("timestamp", "level", "message", "service", "environment"))
    return {**envelope, **_without(record["fields"], _RESERVED_LOG)}


def _in_order(fields: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Catalogued fields first, as the catalogue lists them; the others behind, as they were given."""
    return {**{name: fields[name] for name in names if name in fields}, **fields}


def _present(record: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: record[name] for name in names if record.get(name) is not None}


def _without(fields: dict[str, Any], reserved: frozenset[str]) -> dict[str, Any]:
    return fields if reserved.isdisjoint(fields) else {k: v for k, v in fields.items() if k not in reserved}


def _shortened(record: dict[str, Any], length: int) -> dict[str, Any]:
    """Without its largest fields, so that the rest fits; ``truncated`` says so."""
    fields = dict(record["fields"])
    sizes = {key: len(_dumps(value)) for key, value in fields.items()}
    for key in sorted(sizes, key=lambda key: sizes[key], reverse=True):
        if length <= LINE_BYTES - len(',"truncated":true'):
            break
        length -= sizes[key]
        del fields[key]
    return {**record, "fields": {**fields, "truncated": True}}


def _dumps(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)
