"""Alerts: the state of every rule, and one rule over time with its episodes and its why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import duckdb
from sqlalchemy import select
from sqlalchemy.orm import Session

from tocsin_server.clock import SECOND_US, iso
from tocsin_server.query import STEP_US, Grid, Labels, labels_of
from tocsin_server.rules import Rule
from tocsin_server.rules.readings import Presence, Readings, Truth
from tocsin_server.state.tables import AlertTransition, RuleFailure
from tocsin_server.web.charts import chart
from tocsin_server.web.filters import explore_url, of_selection
from tocsin_server.web.measuring import (
    FAILURES,
    Measured,
    number_urls,
    readings_over,
    since,
    values,
    worst,
)
from tocsin_server.web.params import HOUR_US, NotFound, Params, TimeRange, moment, parse_moment, time_range
from tocsin_server.web.services import Services
from tocsin_server.web.views import board
from tocsin_server.web.wording import labels_text, lasting, sentence_of, threshold_of, value_text
from tocsin_server.why import explain

#: Lines that a chart draws; the table says when there are more.
_SERIES = 6
_EPISODES = 100
#: A chart has at most about so many instants.
_INSTANTS = 240
STATES = ("firing", "pending", "silenced", "unknown", "ok")


def alerts(services: Services, params: Params) -> dict[str, Any]:
    """The data of ``/alerts``; ``state`` keeps only the rules in that state."""
    now_us, catalogue = services.clock(), services.catalogue()
    rules = board.by_name(catalogue.rules)
    with services.state.reading() as session:
        instances = board.instances(session, rules, now_us)
        failures = {row.alert: row for row in session.scalars(select(RuleFailure))}
        evaluated = board.evaluated(session, now_us)
        at_us = board.last_instant(session, now_us)
    readings = _now(services, catalogue.rules, at_us)
    rows = [_row(rule, at_us, instances, failures, readings.get(rule.alert)) for rule in catalogue.rules]
    rows.sort(key=lambda row: (row["meta"], STATES.index(row["state"]), row["title"]))
    chosen = params.one("state")
    return {
        "now": iso(now_us),
        "evaluated": evaluated,
        "at": iso(at_us),
        "tiles": [{"state": state, "count": sum(row["state"] == state for row in rows)} for state in STATES],
        "chosen": chosen if chosen in STATES else "",
        "rules": [row for row in rows if chosen in ("", row["state"])],
        "faults": [str(fault) for fault in services.faults()],
    }


def alert(services: Services, params: Params) -> dict[str, Any]:
    """The data of ``/alerts/NAME``: ``from``, ``to`` choose the chart, ``at`` the instant to explain."""
    now_us, catalogue = services.clock(), services.catalogue()
    rule = board.by_name(catalogue.rules).get(params.path["name"])
    if rule is None:
        raise NotFound("there is no rule of this name: the alerts page lists them")
    span = time_range(params, now_us, 3 * HOUR_US)
    with services.state.reading() as session:
        instances = [
            one for one in board.instances(session, {rule.alert: rule}, now_us) if one["alert"] == rule.alert
        ]
        at_us = _asked(params, now_us) or board.last_instant(session, now_us)
        known = [labels_of(one["labels"]) for one in instances]
        with services.connect(since(rule, min(span.from_us, at_us))) as connection:
            drawn, failure = _chart(connection, rule, span, known, services.settings.expect)
            why = explain(connection, session, catalogue, rule.alert, at_us, services.settings.expect)
        return {
            "now": iso(now_us),
            "range": span.as_json(),
            "rule": described(rule),
            "instances": instances,
            "chart": drawn,
            "failure": failure,
            "episodes": _episodes(session, rule, now_us),
            "at": moment(at_us),
            "why": why,
            "links": _links(rule, why, at_us),
            "events_url": _events_url(rule, span),
        }


def described(rule: Rule) -> dict[str, Any]:
    """A rule in words and exactly."""
    threshold = threshold_of(rule)
    return {
        "alert": rule.alert,
        "title": rule.title or rule.alert,
        "severity": rule.severity,
        "sentence": sentence_of(rule),
        "exactly": rule.condition.exactly(),
        "action": rule.action,
        "runbooks": list(rule.runbooks),
        "for": lasting(rule.for_us) if rule.for_us else "",
        "keep_firing_for": lasting(rule.keep_us) if rule.keep_us else "",
        "by": list(rule.by),
        "threshold": threshold,
        "threshold_text": value_text(rule, threshold),
        "meta": rule.meta,
    }


# --- all rules, now -------------------------------------------------------------------------------------


def _now(services: Services, rules: Sequence[Rule], at_us: int) -> dict[str, Measured | str]:
    """Alert -> what it measures at one instant, or why its query failed."""
    grid = Grid(at_us, at_us)
    found: dict[str, Measured | str] = {}
    with services.connect(min((since(rule, at_us) for rule in rules), default=at_us)) as connection:
        presence = Presence(connection, grid)
        for rule in rules:
            try:
                one = worst(readings_over(connection, rule, grid, (), services.settings.expect, presence))
            except FAILURES as error:
                found[rule.alert] = " ".join(str(error).split())
            else:
                found |= {rule.alert: one} if one else {}
    return found


def _row(
    rule: Rule,
    at_us: int,
    instances: Sequence[Mapping[str, Any]],
    failures: Mapping[str, RuleFailure],
    reading: Measured | str | None,
) -> dict[str, Any]:
    mine = [one for one in instances if one["alert"] == rule.alert]
    failure = (
        failures[rule.alert].message
        if rule.alert in failures
        else reading
        if isinstance(reading, str)
        else ""
    )
    now = reading if isinstance(reading, Measured) else None
    return {
        **described(rule),
        "state": _state(mine, failure, now),
        "instances": mine,
        "failure": failure,
        "value": now.value if now else None,
        "value_text": value_text(rule, now.value) if now else "–",
        "value_of": labels_text(dict(now.labels)) if now else "",
        "value_url": number_urls(rule, now.labels, at_us).get(_main_number(now), "") if now else "",
        "no_data": now is None or now.truth == "unknown",
    }


def _state(instances: Sequence[Mapping[str, Any]], failure: str, now: Measured | None) -> str:
    firing = [one for one in instances if one["state"] == "firing"]
    if firing:
        return "silenced" if all(one["silenced_until"] for one in firing) else "firing"
    if instances:
        return "pending"
    return "unknown" if failure or now is None or now.truth == "unknown" else "ok"


def _main_number(now: Measured) -> str:
    return next((name for name in ("bad", "count") if name in now.numbers), "value")


# --- one rule over time ---------------------------------------------------------------------------------


def _chart(
    connection: duckdb.DuckDBPyConnection,
    rule: Rule,
    span: TimeRange,
    known: Iterable[Labels],
    expect: Sequence[str],
) -> tuple[dict[str, Any] | None, str]:
    """The condition's value over time against its threshold; or why it cannot be read."""
    stride = max(1, (span.to_us - span.from_us) // STEP_US // _INSTANTS)
    first = -(-span.from_us // STEP_US) * STEP_US
    grid = Grid(first, span.to_us)
    try:
        found = readings_over(connection, rule, grid, known, expect) if len(grid) else []
    except FAILURES as error:
        return None, " ".join(str(error).split())
    shown = sorted(found, key=_height, reverse=True)[:_SERIES]
    times = grid.instants().tolist()[::stride]
    scale, unit = _scale(rule)
    series = {
        labels_text(dict(one.labels)) or rule.alert: [_scaled(v, scale) for v in values(one)[::stride]]
        for one in shown
    }
    threshold = threshold_of(rule)
    lines = {} if threshold is None else {f"threshold {value_text(rule, threshold)}": scale * threshold}
    drawn = chart(
        rule.title or rule.alert, unit, times, series, thresholds=lines, urls=_why_urls(rule, span, times)
    )
    return drawn | {"more": max(0, len(found) - _SERIES)}, ""


def _scale(rule: Rule) -> tuple[float, str]:
    share = value_text(rule, 1).endswith("%")
    return (100, "%") if share else (1, "s" if value_text(rule, 1).endswith(" s") else "")


def _scaled(value: float | int | None, scale: float) -> float | int | None:
    return None if value is None else value * scale


def _height(readings: Readings) -> tuple[int, float]:
    numbers = [value for value in values(readings) if value is not None]
    return int((readings.truth == Truth.TRUE).sum()), max(map(float, numbers), default=float("-inf"))


def _why_urls(rule: Rule, span: TimeRange, times: Sequence[int]) -> list[str]:
    ends = "&".join(f"{name}={text}" for name, text in span.as_json().items())
    return [f"/alerts/{rule.alert}?{ends}&at={moment(at_us)}#why" for at_us in times]


def _links(rule: Rule, why: Mapping[str, Any], at_us: int) -> list[dict[str, str]]:
    """For each instance of an explanation: number -> the events behind it."""
    return [number_urls(rule, labels_of(one["labels"]), at_us) for one in why["instances"]]


def _episodes(session: Session, rule: Rule, now_us: int) -> list[dict[str, Any]]:
    """Firing and pending episodes from the transitions, newest first."""
    rows = session.scalars(
        select(AlertTransition)
        .where(AlertTransition.alert == rule.alert)
        .order_by(AlertTransition.id.desc())
        .limit(10 * _EPISODES)
    ).all()
    ended: dict[tuple[str, str], AlertTransition] = {}
    episodes: list[dict[str, Any]] = []
    for row in rows:
        if row.to in ("resolved", "inactive"):
            ended[row.labels_key, row.drill] = row
        elif row.to == "firing":
            episodes.append(_episode(rule, row, ended.pop((row.labels_key, row.drill), None), now_us))
    return episodes[:_EPISODES]


def _episode(
    rule: Rule, fired: AlertTransition, ended: AlertTransition | None, now_us: int
) -> dict[str, Any]:
    margin = 30 * 60 * SECOND_US
    end_us = ended.at if ended else now_us
    span = TimeRange(fired.pending_at - margin, end_us + (margin if ended else 0))
    ends = "&".join(f"{name}={text}" for name, text in span.as_json().items())
    return {
        "labels": dict(fired.labels),
        "where": labels_text(fired.labels),
        "pending_at": iso(fired.pending_at),
        "fired_at": iso(fired.at),
        "resolved_at": iso(ended.at) if ended else None,
        "for": lasting(end_us - fired.at),
        "value_text": value_text(rule, fired.value),
        "superseded": fired.superseded,
        "drill": fired.drill,
        "url": f"/alerts/{rule.alert}?{ends}&at={iso(fired.at)}",
    }


def _events_url(rule: Rule, span: TimeRange) -> str:
    if not hasattr(rule.condition, "event"):
        return explore_url(span)
    return explore_url(span, *of_selection(rule.condition))  # type: ignore[arg-type]  # has an event: a Selection


def _asked(params: Params, now_us: int) -> int | None:
    """The instant that ``at`` falls on: rules are evaluated every 30 s."""
    text = params.one("at")
    return parse_moment(text, now_us) // STEP_US * STEP_US if text else None
