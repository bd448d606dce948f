"""What can be wrong with a rule that has the right types, looked up in the plain data of its file.

Each check is a generator of faults over one document; it skips what is not there or has the wrong type, so
that it also reports on an alert whose other keys are wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import duckdb
from pydantic import TypeAdapter, ValidationError

from tocsin.events import EVENTS
from tocsin_server.columns import COLUMNS, CREATE_EVENTS
from tocsin_server.durations import format_duration, parse_duration
from tocsin_server.errors import Fault
from tocsin_server.query import STEP_US, Filters, filter_fault
from tocsin_server.rules.rule import KINDS
from tocsin_server.rules.select import ask
from tocsin_server.rules.values import parse_threshold
from tocsin_server.sql import RefusedSQL, guard
from tocsin_server.yamlfile import Document, Location, did_you_mean

_FILTERS: TypeAdapter[Filters] = TypeAdapter(Filters)
#: Events that every source may send besides those of the catalogue.
_OTHER_EVENTS = ("http.request", "log")


# --- conditions ------------------------------------------------------------------------------------------


def alerts(document: Document) -> Iterator[tuple[Location, dict[str, Any]]]:
    """(location, keys) of every alert that is a mapping."""
    alerts = document.data.get("alerts") if isinstance(document.data, dict) else None
    for index, alert in enumerate(alerts if isinstance(alerts, list) else []):
        if isinstance(alert, dict):
            yield ("alerts", index), alert


def _conditions(document: Document) -> Iterator[tuple[Location, str, dict[str, Any], dict[str, Any]]]:
    """(location of the kind, kind, its keys, the alert) of every condition that is a mapping."""
    for location, alert in alerts(document):
        when = alert.get("when")
        for kind, condition in when.items() if isinstance(when, dict) else ():
            if kind in KINDS and isinstance(condition, dict):
                yield (*location, "when", kind), kind, condition, alert


def _one_kind(document: Document) -> Iterator[Fault]:
    for location, alert in alerts(document):
        when = alert.get("when")
        if isinstance(when, dict):
            kinds = [kind for kind in when if kind in KINDS]
            if len(kinds) > 1:
                hint = "write an alert for each"
                yield document.fault((*location, "when", kinds[1]), "a second condition under `when`", hint)
            if not kinds and not when:
                yield document.fault(
                    (*location, "when"), "`when` holds no condition", f"one of {', '.join(KINDS)}"
                )
            for kind in kinds:
                if when[kind] is None:
                    yield document.fault(
                        (*location, "when", kind), f"`{kind}` is empty", "write its keys below it"
                    )


def _useless_for(document: Document) -> Iterator[Fault]:
    """Row A2.14: a window at least as long as ``for`` remembers a short burst, so ``for`` filters nothing."""
    for location, kind, condition, alert in _conditions(document):
        over, held = _duration(condition.get("over")), _duration(alert.get("for"))
        if KINDS[kind].windowed and over and held and held % STEP_US == 0 and over >= held:
            message = (
                f"`for: {format_duration(held)}` is useless with the window `over: {format_duration(over)}`"
            )
            hint = "a window at least as long remembers a short burst: shorten `over`, or write `for: 0s`"
            yield document.fault((location[0], location[1], "for"), message, hint)


def _hysteresis(document: Document) -> Iterator[Fault]:
    for location, _, condition, alert in _conditions(document):
        if "resolve_threshold" not in alert:
            continue
        place = (location[0], location[1], "resolve_threshold")
        above, resolve = _threshold(condition.get("above")), _threshold(alert["resolve_threshold"])
        if "above" not in condition:
            yield document.fault(
                place, "this kind of condition has no threshold", "remove `resolve_threshold`"
            )
        elif above is not None and resolve is not None and resolve >= above:
            yield document.fault(
                place, "`resolve_threshold` is not below `above`", f"write less than {condition['above']}"
            )


def _minimums(document: Document) -> Iterator[Fault]:
    for location, _, condition, _ in _conditions(document):
        total, bad = condition.get("min_total"), condition.get("min_bad")
        if isinstance(total, int) and isinstance(bad, int) and bad > total > 0:
            yield document.fault(
                (*location, "min_bad"), "`min_bad` is greater than `min_total`", "swap them?"
            )


def _expectations(document: Document) -> Iterator[Fault]:
    for location, kind, condition, alert in _conditions(document):
        by = alert.get("by", ["service", "environment"])
        if kind == "absence" and condition.get("expect") and isinstance(by, list | dict) and len(by) != 1:
            yield document.fault(
                (*location, "expect"), "`expect` needs exactly one label", "write `by: [service]`"
            )


def _no_labels(document: Document) -> Iterator[Fault]:
    for location, kind, _, alert in _conditions(document):
        if kind == "always" and alert.get("by", []):
            yield document.fault((location[0], location[1], "by"), "`always` has no labels", "write `by: []`")


# --- events and fields ----------------------------------------------------------------------------------


def _events(document: Document) -> Iterator[Fault]:
    for location, _, condition, _ in _conditions(document):
        names: list[tuple[Location, Any]] = [
            (("event",), condition.get("event")),
            (("promised_by",), condition.get("promised_by")),
        ]
        listed = condition.get("events")
        names += [(("events", i), name) for i, name in enumerate(listed if isinstance(listed, list) else [])]
        for key, name in names:
            if isinstance(name, str) and (hint := _near(name, (*EVENTS, *_OTHER_EVENTS))):
                yield document.fault((*location, *key), f"no source sends `{name}`", hint)


def _fields(document: Document) -> Iterator[Fault]:
    for location, _, condition, alert in _conditions(document):
        known = _known_fields(condition.get("event"))
        for key in ("of", "to", "per"):
            name = condition.get(key)
            if isinstance(name, str) and (hint := _near(name, known)):
                yield document.fault((*location, key), f"events have no field `{name}`", hint)
        by = alert.get("by")
        labels = (
            list(by.items()) if isinstance(by, dict) else list(enumerate(by if isinstance(by, list) else []))
        )
        for place, name in labels:
            if isinstance(name, str) and (hint := _near(name, known)):
                yield document.fault(
                    (location[0], location[1], "by", place), f"events have no field `{name}`", hint
                )


def _filters(document: Document) -> Iterator[Fault]:
    for location, _, condition, _ in _conditions(document):
        known = _known_fields(condition.get("event"))
        for key in ("where", "unless", "bad", "good"):
            filters = condition.get(key)
            for name, value in filters.items() if isinstance(filters, dict) else ():
                place = (*location, key, name)
                if hint := _near(name, known):
                    yield document.fault(place, f"events have no field `{name}`", hint)
                elif reason := _impossible(name, value):
                    yield document.fault(place, f"`{name}` {reason}", "correct the value")


def _impossible(name: str, value: Any) -> str:
    try:
        matcher = _FILTERS.validate_python({name: value})[name]
    except ValidationError:
        return ""  # reported with the types
    return filter_fault(name, matcher)


def _known_fields(event: object) -> set[str]:
    catalogued = EVENTS[event].field_names if isinstance(event, str) and event in EVENTS else ()
    return {*COLUMNS, *catalogued}


def _near(name: str, known: Sequence[str] | set[str]) -> str:
    """A hint when ``name`` looks like a misspelt known one. Other names are the team's own, and allowed."""
    hint = "" if name in known else did_you_mean(name, known, cutoff=0.8)
    return hint if hint.startswith("did you mean") else ""


# --- SQL ------------------------------------------------------------------------------------------------


def _sql(document: Document) -> Iterator[Fault]:
    """Runs the query on an empty table: its columns must exist, and it must answer labels and ``value``."""
    for location, kind, condition, alert in _conditions(document):
        query, by = condition.get("query"), alert.get("by", ["service", "environment"])
        if kind == "sql" and isinstance(query, str) and isinstance(by, list | dict):
            for problem in _sql_problems(query, [*by, "value"]):
                hint = "select the labels of `by`, and `value`"
                yield document.fault((*location, "query"), f"`query`: {problem}", hint)


def _sql_problems(query: str, needed: list[str]) -> list[str]:
    with duckdb.connect() as connection:
        connection.execute(CREATE_EVENTS)
        try:
            columns, _ = ask(connection, guard(query, deterministic=True), 0)
        except RefusedSQL:
            return []  # reported with the types
        except duckdb.Error as error:
            return [str(error).splitlines()[0]]
    return [f"there is no column `{name}`" for name in needed if name not in columns]


def _duration(value: object) -> int | None:
    try:
        return parse_duration(str(value))
    except ValueError:
        return None


def _threshold(value: object) -> Any:
    try:
        return parse_threshold(value)
    except ValueError:
        return None


#: Every check of one document.
CHECKS: tuple[Callable[[Document], Iterator[Fault]], ...] = (
    _one_kind,
    _useless_for,
    _hysteresis,
    _minimums,
    _expectations,
    _no_labels,
    _events,
    _fields,
    _filters,
    _sql,
)
