"""The documents that may be ordinary: one shape per catalogued event, and the log and request lines."""

from __future__ import annotations

from dataclasses import dataclass

from tocsin.events import EVENTS
from tocsin_server.columns import COLUMNS
from tocsin_server.privacy import key_kind
from tocsin_server.privacy.fields import ERROR, IDENTIFIER, PATH, TEXT


@dataclass(frozen=True, slots=True)
class Field:
    """A field that an event is known to have: JSON name, whether it stands in ``tags``, type, and column
    (None: it goes to ``attrs``). Types are the catalogue's, and ``id`` (text or whole number), ``metric`` and
    ``timestamp``.
    """

    name: str
    nested: bool
    type: str
    column: str | None

    @property
    def alias(self) -> str:
        """The field's name in SQL."""
        return ("t_" if self.nested else "f_") + self.name

    @property
    def is_text(self) -> bool:
        """Read as text, two quotes counted. The others are read as JSON text, which shows their type."""
        return self.type in ("metric", "timestamp") or (
            self.column not in (None, "message") and (self.type == "text" or self.name == "request_id")
        )


@dataclass(frozen=True, slots=True)
class Shape:
    """The documents of one kind: how they begin, and every field they may have.

    ``event`` is the event's name, empty for log and request lines.
    """

    event: str
    prefix: str
    fields: tuple[Field, ...]

    def columns(self, *types: str) -> list[str]:
        """Columns that fields of these types fill."""
        return [field.column for field in self.fields if field.column and field.type in types]


_KINDS = {"user_id": "id", "tenant_id": "id", "request_id": "id", "duration_ms": "number"}


def _field(name: str, nested: bool, kind: str) -> Field:
    return Field(name, nested, _KINDS.get(name, kind), name if name in COLUMNS else None)


_ENVELOPE = (
    Field("timestamp", False, "timestamp", "ts"),
    *(_field(name, False, "text") for name in ("service", "environment", "level", "event_id")),
)


def _metric_shape(name: str) -> Shape:
    event = EVENTS[name]
    fields = tuple(
        _field(f.name, not event.flat, f.type)
        for f in event.fields
        if f.name in COLUMNS or f.type != "text" or key_kind(f.name) in (TEXT, ERROR, PATH, IDENTIFIER)
    )
    metric = Field("metric", False, "metric", None)
    return Shape(name, f'{{"metric":"{name}"', (metric, *fields, *_ENVELOPE))


LINE_FIELDS = (
    *_ENVELOPE,
    *(_field(n, False, "text") for n in ("message", "method", "path", "route", "controller", "action")),
    *(_field(n, False, "id") for n in ("request_id", "tenant_id", "user_id")),
    _field("status", False, "integer"),
    _field("duration_ms", False, "number"),
)

#: Every shape that may be ordinary; the last two are log and request lines, by the key they begin with.
#: Deploy markers are left to the reference: they are rare, and name a service twice.
SHAPES: tuple[Shape, ...] = (
    *(_metric_shape(name) for name in EVENTS if name != "deploy"),
    Shape("", '{"timestamp":"', LINE_FIELDS),
    Shape("", '{"request_id":"', LINE_FIELDS),
)
#: Index of the shape whose ``message`` may be a document itself.
LINE_SHAPE = len(SHAPES) - 2
