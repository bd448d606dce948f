"""How well are the lines understood, which alerts could work, and what is missing for the others?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import duckdb

from tocsin_server.load import Books
from tocsin_server.privacy import scrub_error
from tocsin_server.query import Filters, all_of, field_sql
from tocsin_server.rules import Rule
from tocsin_server.rules.readings import Condition
from tocsin_server.rules.shares import listed
from tocsin_server.store.manifest import DeadLetter

#: Parts of a condition that name fields: filters by their keys, others by their value.
_FILTERS = ("where", "bad", "good")
_FIELDS = ("of", "to", "per")
#: A rule that counts distinct values counts an event without one by itself.
_OPTIONAL = {"run_id"}


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
        if not _counts(connection, event, {}, "name")[0]:
            missing.append(f"no {event} event; docs/events.md shows its line")
            continue
        for name, beside in fields.items():
            events, having = _counts(connection, event, beside, name)
            if events and not having:
                which = f" with {listed(beside)}" if beside else ""
                missing.append(f"no {event} event{which} has the field {name}")
    return Readiness(not missing, missing)


def _counts(
    connection: duckdb.DuckDBPyConnection, event: str, filters: Filters, field_name: str
) -> tuple[int, int]:
    """Events of this name that meet the filters, and those of them that have the field."""
    where = all_of(filters)
    row = connection.execute(
        f"SELECT count(*), count({field_sql(field_name)}) FROM events WHERE name = ? AND {where.text}",
        [event, *where.params],
    ).fetchall()[0]
    return row[0], row[1]


def needs(condition: Condition) -> dict[str, dict[str, Filters]]:
    """Event name -> the fields that the condition reads, each with the filters that stand beside it; empty
    when it cannot be told (``sql``).

    Only events that meet those filters must have the field: an ``error_source`` is nothing that a success
    has.
    """
    single = getattr(condition, "event", None)
    events = [single] if single else list(getattr(condition, "events", ()))
    fields: dict[str, Filters] = {
        name: {other: matcher for other, matcher in filters.items() if other != name}
        for part in _FILTERS
        for filters in [getattr(condition, part, {})]
        for name in filters
    }
    fields |= {value: {} for part in _FIELDS if (value := getattr(condition, part, None))}
    return {event: {name: fields[name] for name in sorted(fields.keys() - _OPTIONAL)} for event in events}
