"""How well are the lines understood, which alerts could work, and what is missing for the others?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import duckdb

from tocsin_server.load import Books
from tocsin_server.privacy import scrub_error
from tocsin_server.query import field_sql
from tocsin_server.rules import Rule
from tocsin_server.rules.readings import Condition
from tocsin_server.store.manifest import DeadLetter

#: Parts of a condition that name fields: filters by their keys, others by their value.
_FILTERS = ("where", "bad", "good")
_FIELDS = ("of", "to", "per")
#: A rule that counts distinct values counts an event without one by itself.
_OPTIONAL = {"run_id", "error_source"}


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether an alert could fire on these lines; ``missing`` says what they lack."""

    ready: bool
    missing: list[str]


@dataclass(frozen=True, slots=True)
class Example:
    """A line that is not understood, or only as text: where it stands, why, and its beginning, scrubbed."""

    source: str
    position: int
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What ``tocsin doctor`` says."""

    books: Books
    alerts: dict[str, Readiness]
    examples: list[Example] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The shape of ``tocsin doctor --json``."""
        return {
            "lines": self.books.lines,
            "understood": self.books.events.total() + self.books.logs,
            "dialects": dict(sorted(self.books.dialects.items())),
            "events": dict(sorted(self.books.events.items())),
            "logs": self.books.logs,
            "rejected": self.books.rejected,
            "duplicates": self.books.duplicates,
            "blank": self.books.blank,
            "alerts": {name: asdict(readiness) for name, readiness in self.alerts.items()},
            "examples": [asdict(example) for example in self.examples],
        }


def diagnose(
    connection: duckdb.DuckDBPyConnection, books: Books, rules: Sequence[Rule], letters: Sequence[DeadLetter]
) -> Diagnosis:
    """Looks at ``events`` of ``connection`` with the eyes of each rule that is not about the alerting
    itself.
    """
    alerts = {rule.alert: _readiness(connection, rule.condition) for rule in rules if not rule.meta}
    examples = [Example(d.source, d.position, d.reason, _beginning(d.line)) for d in letters]
    return Diagnosis(books, alerts, examples)


def _beginning(line: bytes) -> str:
    return scrub_error(line[:400].decode("utf-8", "replace"))


def _readiness(connection: duckdb.DuckDBPyConnection, condition: Condition) -> Readiness:
    missing: list[str] = []
    for event, fields in needs(condition).items():
        counts = ", ".join(["count(*)", *(f"count({field_sql(name)})" for name in fields)])
        found = connection.execute(f"SELECT {counts} FROM events WHERE name = ?", [event]).fetchall()[0]
        if not found[0]:
            missing.append(f"no {event} event; docs/events.md shows its line")
        else:
            missing += [
                f"no {event} event has the field {name}"
                for name, count in zip(fields, found[1:], strict=True)
                if not count
            ]
    return Readiness(not missing, missing)


def needs(condition: Condition) -> dict[str, list[str]]:
    """Event name -> fields that the condition reads; empty when it cannot be told (``sql``)."""
    single = getattr(condition, "event", None)
    events = [single] if single else list(getattr(condition, "events", ()))
    fields = [name for part in _FILTERS for name in getattr(condition, part, {})]
    fields += [value for part in _FIELDS if (value := getattr(condition, part, None))]
    return {event: sorted(set(fields) - _OPTIONAL) for event in events}
