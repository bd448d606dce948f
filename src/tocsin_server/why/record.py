"""What the running server did about one alert: states and transitions, incidents, notifications."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tocsin_server.clock import iso
from tocsin_server.evaluate import State
from tocsin_server.query import Labels, labels_of
from tocsin_server.rules import Rule
from tocsin_server.rules.load import Catalogue
from tocsin_server.state.silences import as_json, silenced
from tocsin_server.state.tables import (
    AlertState,
    AlertTransition,
    DeliveryAttempt,
    EvaluatorProgress,
    IncidentAlert,
    Notification,
    NotificationGroup,
    labels_key,
)


@dataclass(frozen=True, slots=True)
class Recorded:
    """An instance as it was stored: its state right after the instant ``as_of`` (None: inactive)."""

    state: State | None
    as_of: int


def recorded(session: Session, alert: str, at_us: int) -> tuple[dict[Labels, Recorded], int | None]:
    """The instances as the server held them at ``at_us``, and the instant up to which all others were
    inactive (None: not known, or never evaluated).
    """
    progress = session.get(EvaluatorProgress, 1)
    if progress is None:
        return {}, None
    if at_us < progress.last_at:
        newest = newest_transitions(session, [alert], at_us)
        return {labels: Recorded(_state_after(row), row.at) for (_alert, labels), row in newest.items()}, None
    rows = session.scalars(select(AlertState).where(AlertState.alert == alert))
    return {labels_of(row.labels): Recorded(_state(row), progress.last_at) for row in rows}, progress.last_at


def newest_transitions(
    session: Session, alerts: Sequence[str], at_us: int
) -> dict[tuple[str, Labels], AlertTransition]:
    """The last change of every instance of these alerts up to ``at_us``; drills left out."""
    newest = (
        select(func.max(AlertTransition.id))
        .where(AlertTransition.alert.in_(alerts), AlertTransition.at <= at_us, AlertTransition.drill == "")
        .group_by(AlertTransition.alert, AlertTransition.labels_key)
    )
    rows = session.scalars(select(AlertTransition).where(AlertTransition.id.in_(newest)))
    return {(row.alert, labels_of(row.labels)): row for row in rows}


def transitions(
    session: Session, alert: str, labels: Labels, from_us: int, to_us: int
) -> list[dict[str, Any]]:
    """Changes of one instance, oldest first."""
    rows = session.scalars(
        select(AlertTransition)
        .where(AlertTransition.alert == alert, AlertTransition.labels_key == labels_key(dict(labels)))
        .where(AlertTransition.at >= from_us, AlertTransition.at <= to_us, AlertTransition.drill == "")
        .order_by(AlertTransition.at, AlertTransition.id)
    )
    return [
        {"at": iso(row.at), "to": row.to, "value": row.value, "superseded": row.superseded} for row in rows
    ]


def inhibited_by(
    session: Session, catalogue: Catalogue, alert: str, labels: Labels, at_us: int
) -> list[dict[str, Any]]:
    """Firing instances that keep this one from being sent. A label missing on both sides counts as equal."""
    rows = [entry for entry in catalogue.inhibitions if alert in entry.targets and entry.source != alert]
    if not rows:
        return []
    newest = newest_transitions(session, [entry.source for entry in rows], at_us)
    firing = [key for key, row in newest.items() if row.to == "firing"]
    mine = dict(labels)
    return [
        {"alert": source, "labels": dict(theirs)}
        for entry in rows
        for source, theirs in firing
        if source == entry.source
        and all(dict(theirs).get(name, "") == mine.get(name, "") for name in entry.equal)
    ]


def silence_of(session: Session, rule: Rule, labels: Labels, at_us: int) -> dict[str, Any] | None:
    """The silence that keeps this instance from being sent at ``at_us``."""
    found = silenced(session, {**dict(labels), "alertname": rule.alert, "severity": rule.severity}, at_us)
    return None if found is None else as_json(found, at_us)


def incident_of(session: Session, alert: str, labels: Labels, fired_us: int) -> int | None:
    """The incident of the episode that fired then."""
    return session.scalar(
        select(IncidentAlert.incident_id)
        .where(IncidentAlert.alert == alert, IncidentAlert.labels_key == labels_key(dict(labels)))
        .where(IncidentAlert.fired_at == fired_us)
        .order_by(IncidentAlert.id.desc())
    )


def notifications(
    session: Session, alert: str, labels: Labels, incident: int | None, since_us: int
) -> list[dict[str, Any]]:
    """What was sent, is tried, or waits, about one instance: to which channel, when, what it answered."""
    groups = [group for group in session.scalars(select(NotificationGroup)) if _holds(group, alert, labels)]
    rows = session.scalars(
        select(Notification)
        .where(Notification.created_at >= since_us, Notification.drill == "")
        .order_by(Notification.id)
    )
    keys = {(group.channel, group.group_key) for group in groups}
    mine = [
        row
        for row in rows
        if (row.channel, row.group_key) in keys or (incident is not None and row.incident_id == incident)
    ]
    return [*_sent(session, mine), *_waiting(groups)]


def _sent(session: Session, rows: Iterable[Notification]) -> list[dict[str, Any]]:
    return [
        {
            "channel": row.channel,
            "reason": row.reason,
            "status": row.status,
            "created_at": iso(row.created_at),
            "delivered_at": None if row.delivered_at is None else iso(row.delivered_at),
            "next_try_at": None if row.next_try_at is None else iso(row.next_try_at),
            "attempts": _attempts(session, row.id),
        }
        for row in rows
    ]


def _attempts(session: Session, notification: int) -> list[dict[str, Any]]:
    rows = session.scalars(
        select(DeliveryAttempt)
        .where(DeliveryAttempt.notification_id == notification)
        .order_by(DeliveryAttempt.number)
    )
    return [{"at": iso(row.started_at), "outcome": row.outcome, "answer": row.answer} for row in rows]


def _waiting(groups: Iterable[NotificationGroup]) -> list[dict[str, Any]]:
    return [
        {"channel": group.channel, "status": "waiting", "due_at": iso(group.due_at)}
        for group in groups
        if group.due_at is not None and group.last_sent_at is None
    ]


def _holds(group: NotificationGroup, alert: str, labels: Labels) -> bool:
    return not group.drill and any(
        member["alert"] == alert and labels_of(member["labels"]) == labels
        for member in (*group.members, *group.sent)
    )


def _state(row: AlertState) -> State:
    return State(
        row.alert,
        labels_of(row.labels),
        row.pending_at,
        row.active_at,
        row.fired_at,
        row.keep_since,
        row.value,
    )


def _state_after(row: AlertTransition) -> State | None:
    if row.to not in ("pending", "firing"):
        return None
    labels = labels_of(row.labels)
    return State(row.alert, labels, row.pending_at, row.pending_at, row.fired_at, None, row.value)
