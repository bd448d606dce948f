"""One rule at one instant: what its condition measured per label set, and what became of it.

Nothing here decides anything: the conditions are read and the state machine is walked by the code that
evaluates, the rest is looked up. Where a running server has stored what it held, that is what counts; before
and after that, the same state machine says what it would have held.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
from sqlalchemy.orm import Session

from tocsin_server.clock import SECOND_US, iso
from tocsin_server.durations import format_duration
from tocsin_server.errors import TocsinError
from tocsin_server.evaluate import CATCH_UP_US, State, evaluate
from tocsin_server.query import STEP_US, Grid, Labels, Sql, bounds
from tocsin_server.rules import Rule
from tocsin_server.rules.absence import Absence
from tocsin_server.rules.load import Catalogue
from tocsin_server.rules.readings import HEARD_FOR_US, SEEN_FOR_US, Presence, Readings, Source, Truth
from tocsin_server.why import record
from tocsin_server.why.measures import Numbers, measure
from tocsin_server.why.story import Known, story
from tocsin_server.yamlfile import did_you_mean

#: Label sets that one explanation holds; the rest is counted.
MOST = 50
#: Changes of an instance this far around the instant are part of its explanation.
AROUND_US = 3600 * SECOND_US


def explain(
    connection: duckdb.DuckDBPyConnection,
    session: Session,
    catalogue: Catalogue,
    alert: str,
    at_us: int,
    expect: Sequence[str] = (),
) -> dict[str, Any]:
    """Why ``alert`` was what it was at ``at_us`` (µs, rounded down to an evaluation): JSON values only.

    ``connection`` holds ``events``, ``expect`` names services whose silence is an alert. ``instances`` are
    the label sets, the nearest to firing first, each with ``truth`` (true, false, unknown), ``measured``,
    ``needed``, ``missing``, ``state``, its times, and ``story``: all of it in sentences. ``nothing`` says why
    there is no instance, ``error`` why the query failed. Raises TocsinError when there is no such alert.
    """
    rule = _rule(catalogue, alert)
    at_us = at_us // STEP_US * STEP_US
    held, inactive_until = record.recorded(session, alert, at_us)
    grid = Grid(at_us - max(CATCH_UP_US, rule.for_us + rule.keep_us), at_us)
    known = frozenset(labels for labels in held if {name for name, _ in labels} == rule.label_names)
    source = Source(connection, grid, Presence(connection, grid), known, tuple(expect))
    readings, error = _read(rule, source)
    view = _View(session, catalogue, rule, source, held, inactive_until)
    instances = [_instance(view, one) for one in readings]
    instances.sort(key=_nearness, reverse=True)
    return {
        **_head(rule, at_us),
        "instances": instances[:MOST],
        "more_instances": max(0, len(instances) - MOST),
        "nothing": None if instances or error else _nothing(connection, rule, at_us),
        "error": error,
    }


@dataclass(frozen=True, slots=True)
class _View:
    session: Session
    catalogue: Catalogue
    rule: Rule
    source: Source
    held: dict[Labels, record.Recorded]
    inactive_until: int | None


def _rule(catalogue: Catalogue, alert: str) -> Rule:
    names = {rule.alert: rule for rule in catalogue.rules}
    if alert not in names:
        hint = did_you_mean(alert, names)
        raise TocsinError(f"there is no alert `{alert}`: {hint or '`tocsin alerts` lists them'}")
    return names[alert]


def _head(rule: Rule, at_us: int) -> dict[str, Any]:
    return {
        "alert": rule.alert,
        "title": rule.title or rule.alert,
        "severity": rule.severity,
        "meta": rule.meta,
        "at": iso(at_us),
        "condition": rule.condition.words(rule.subject, rule.for_us),
        "exactly": rule.condition.exactly(),
        "minimum": rule.condition.minimum(),
        "for": format_duration(rule.for_us),
        "keep_firing_for": format_duration(rule.keep_us),
        "runbooks": list(rule.runbooks),
    }


def _read(rule: Rule, source: Source) -> tuple[list[Readings], str | None]:
    try:
        return list(rule.condition.readings(source, rule.by, rule.resolve_threshold)), None
    except (duckdb.Error, ArithmeticError, LookupError, TypeError, ValueError) as error:
        return [], f"the rule's query failed: {' '.join(str(error).split())}"


# --- one label set --------------------------------------------------------------------------------------


def _instance(view: _View, readings: Readings) -> dict[str, Any]:
    rule, labels, grid = view.rule, readings.labels, view.source.grid
    reading, numbers = readings.at(-1), _numbers(readings)
    state = _state(view, readings)
    since_us, longer = _since(readings, grid)
    fired_us = None if state is None else state.fired_at
    incident = None if fired_us is None else record.incident_of(view.session, rule.alert, labels, fired_us)
    known = Known(
        truth=reading.truth,
        measure=measure(rule, numbers),
        since_us=since_us,
        longer=longer,
        state=state,
        fires_us=None if state is None or fired_us is not None else state.active_at + rule.for_us,
        ends_us=None if state is None or state.keep_since is None else state.keep_since + rule.keep_us,
        silent_because=_silence(view, labels) if reading.truth is Truth.UNKNOWN else "",
        inhibited_by=record.inhibited_by(view.session, view.catalogue, rule.alert, labels, grid.to_us),
        silenced_by=record.silence_of(view.session, rule, labels, grid.to_us),
        incident=incident,
        notifications=_told(view, labels, incident, fired_us),
        transitions=record.transitions(
            view.session, rule.alert, labels, grid.to_us - AROUND_US, grid.to_us + AROUND_US
        ),
    )
    value = {"value": reading.value, "numbers": numbers}
    return {"labels": dict(labels), **value, **known.as_json(), "story": list(story(rule, known))}


def _state(view: _View, readings: Readings) -> State | None:
    """The stored state, taken on to the instant by the state machine."""
    grid = view.source.grid
    held = view.held.get(readings.labels)
    start_us = view.inactive_until if held is None else held.as_of
    state = None if held is None else held.state
    first = 0 if start_us is None else (start_us - grid.from_us) // STEP_US + 1
    for index in range(max(0, first), len(grid)):
        at_us = grid.from_us + index * STEP_US
        state, _ = evaluate(view.rule, readings.labels, at_us, readings.at(index), state)
    return state


def _since(readings: Readings, grid: Grid) -> tuple[int, bool]:
    """(first instant from which the truth is what it is now, whether that may have been even earlier)."""
    others = np.flatnonzero(readings.truth != readings.truth[-1])
    first = int(others[-1]) + 1 if len(others) else 0
    return int(grid.instants()[first]), not len(others)


def _told(view: _View, labels: Labels, incident: int | None, fired_us: int | None) -> list[dict[str, Any]]:
    if fired_us is None:
        return []
    return record.notifications(view.session, view.rule.alert, labels, incident, fired_us)


def _numbers(readings: Readings) -> Numbers:
    last = {name: values[-1].item() for name, values in readings.numbers.items()}
    return {name: None if math.isnan(number) else number for name, number in last.items()}


def _nearness(instance: dict[str, Any]) -> tuple[int, int, float]:
    states = ("inactive", "pending", "firing")
    truths = ("false", "unknown", "true")
    value = instance["value"]
    return (
        states.index(instance["state"]),
        truths.index(instance["truth"]),
        float("-inf") if value is None else value,
    )


# --- silence --------------------------------------------------------------------------------------------


def _silence(view: _View, labels: Labels) -> str:
    """Who did not say what is needed to know."""
    to_us, condition = view.source.grid.to_us, view.rule.condition
    if isinstance(condition, Absence):
        return (
            f"there is less than {format_duration(condition.over)} of history, so that nothing can be missed"
        )
    parts = list(_silent_services(view.source, view.rule, labels))
    event = getattr(condition, "event", None)
    if event is not None and not parts:
        newest = _newest(view.source.connection, event, view.rule, to_us).get(labels)
        came = "none came within 24 h" if newest is None else f"the newest came at {iso(newest)}"
        parts.append(f"no `{event}` that can be used: {came}")
    return "; ".join(parts)


def _silent_services(source: Source, rule: Rule, labels: Labels) -> Iterator[str]:
    """The services that promised heartbeats and are not heard; of one service only if labels name it."""
    to_us = source.grid.to_us
    promised = {service for service, at in source.presence.promises.items() if at <= to_us}
    named = {value for name, value in labels if rule.by.get(name) == "service"}
    for service in sorted(promised & named if named else promised):
        where = Sql("service = ?", (service,))
        last = bounds(source.connection, "max", where, {}, to_us - SEEN_FOR_US, to_us).get(())
        if last is None or last <= to_us - HEARD_FOR_US:
            heard = "for 24 h" if last is None else f"since {iso(last)}"
            yield f"nothing was heard from {service} {heard}, which promised a heartbeat every minute"


def _newest(connection: duckdb.DuckDBPyConnection, event: str, rule: Rule, to_us: int) -> dict[Labels, int]:
    return bounds(connection, "max", Sql("name = ?", (event,)), rule.by, to_us - SEEN_FOR_US, to_us)


def _nothing(connection: duckdb.DuckDBPyConnection, rule: Rule, at_us: int) -> str:
    """Why no label set was measured."""
    condition = rule.condition
    event = getattr(condition, "event", None)
    if event is None:
        return "nothing that this rule looks at was ever seen"
    newest = bounds(connection, "max", Sql("name = ?", (event,)), {}, None, at_us).get(())
    if newest is None:
        return f"no `{event}` was ever seen up to then; `tocsin doctor` says what is missing in your logs"
    window = format_duration(condition.lookback_us or 0)
    return f"no `{event}` that this rule counts in the last {window}; the newest one came at {iso(newest)}"
