"""The board of alerts that several pages show: what fires and what is pending, with incident and silence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from tocsin_server.clock import SECOND_US, iso
from tocsin_server.query import STEP_US, labels_of
from tocsin_server.rules import Rule
from tocsin_server.state import silences
from tocsin_server.state.tables import AlertState, EvaluatorProgress, Incident, IncidentAlert, Silence
from tocsin_server.web.measuring import number_urls
from tocsin_server.web.wording import labels_text, lasting, sentence_of, value_text

_SEVERITIES = ("critical", "warning", "info")
#: When the newest evaluated instant is older than this, the page says that the evaluation is late.
LATE_US = 120 * SECOND_US


def by_name(rules: Sequence[Rule]) -> dict[str, Rule]:
    """Alert name -> rule."""
    return {rule.alert: rule for rule in rules}


def is_heartbeat(rule: Rule | None) -> bool:
    """Whether the rule fires always, to show that alerting works; it is no trouble."""
    return rule is not None and rule.when.always is not None


def instances(session: Session, rules: Mapping[str, Rule], now_us: int) -> list[dict[str, Any]]:
    """Every pending or firing instance, the worst first; heartbeats are left out."""
    states = session.scalars(select(AlertState)).all()
    quiet, incidents = silences.active(session, now_us), _incidents(session)
    at_us = last_instant(session, now_us)
    found = [
        _instance(state, rules.get(state.alert), at_us, now_us, incidents, quiet)
        for state in states
        if not is_heartbeat(rules.get(state.alert))
    ]
    return sorted(found, key=_rank)


def evaluated(session: Session, now_us: int) -> dict[str, Any]:
    """Up to which instant the rules are evaluated, and whether that is late."""
    progress = session.get(EvaluatorProgress, 1)
    last_at = progress.last_at if progress else None
    late = last_at is None or now_us - last_at > LATE_US
    return {"at": None if last_at is None else iso(last_at), "late": late}


def instance_labels(state: AlertState, severity: str) -> dict[str, str]:
    """The labels that silences match."""
    return {**state.labels, "alertname": state.alert, "severity": severity}


def _instance(
    state: AlertState,
    rule: Rule | None,
    at_us: int,
    now_us: int,
    incidents: Mapping[tuple[str, str], int],
    quiet: Sequence[Silence],
) -> dict[str, Any]:
    severity = rule.severity if rule else "warning"
    since_us = state.pending_at if state.fired_at is None else state.fired_at
    silence = silences.first_match(quiet, instance_labels(state, severity))
    return {
        "alert": state.alert,
        "title": (rule.title if rule else "") or state.alert,
        "severity": severity,
        "state": "pending" if state.fired_at is None else "firing",
        "labels": dict(state.labels),
        "where": labels_text(state.labels),
        "since": iso(since_us),
        "for": lasting(now_us - since_us),
        "value": state.value,
        "value_text": value_text(rule, state.value),
        "value_url": _value_url(state, rule, at_us),
        "sentence": sentence_of(rule) if rule else "This rule is gone; it resolves at the next evaluation.",
        "action": rule.action if rule else "",
        "runbooks": list(rule.runbooks) if rule else [],
        "incident": incidents.get((state.alert, state.labels_key)),
        "silenced_until": None if silence is None else iso(silence.ends_at),
    }


def last_instant(session: Session, now_us: int) -> int:
    """The last evaluated instant; before the first evaluation, the newest one there is."""
    progress = session.get(EvaluatorProgress, 1)
    return progress.last_at if progress else now_us // STEP_US * STEP_US


def _value_url(state: AlertState, rule: Rule | None, at_us: int) -> str:
    """The events behind an instance's value."""
    urls = number_urls(rule, labels_of(state.labels), at_us) if rule else {}
    return next((urls[name] for name in ("bad", "count", "results", "value") if name in urls), "")


def _incidents(session: Session) -> dict[tuple[str, str], int]:
    rows = session.execute(
        select(IncidentAlert.alert, IncidentAlert.labels_key, IncidentAlert.incident_id)
        .join(Incident, Incident.id == IncidentAlert.incident_id)
        .where(IncidentAlert.resolved_at.is_(None), Incident.drill == "")
        .order_by(IncidentAlert.id)
    )
    return {(alert, labels): incident for alert, labels, incident in rows}


def _rank(instance: Mapping[str, Any]) -> tuple[bool, bool, int, str]:
    severity = _SEVERITIES.index(instance["severity"]) if instance["severity"] in _SEVERITIES else 3
    silenced = instance["silenced_until"] is not None
    return instance["state"] != "firing", silenced, severity, instance["since"]
