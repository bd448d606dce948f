"""Groups that are due become messages in the outbox: one transaction, so that both happen or neither.

A message waits a little for the evidence of its incident; what is silenced is left out and looked at again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from tocsin_server.clock import SECOND_US
from tocsin_server.notify.grouping import Change, Group, Telling, after_look, key_of, look
from tocsin_server.notify.groups import group_from, locked, store
from tocsin_server.notify.ledger import UNDELIVERED
from tocsin_server.notify.message import compose, context, incident_of
from tocsin_server.rules import Rule
from tocsin_server.state import silences
from tocsin_server.state.tables import Notification, NotificationGroup, RunbookRun, Silence

#: How long a message waits for the runbooks of its incident.
EVIDENCE_WAIT_US = 4 * SECOND_US


def enqueue_due(session: Session, rules: Mapping[str, Rule], url: str, now_us: int) -> int:
    """Puts what the due groups have to tell into the outbox; how many messages that is.

    ``url``: base of the links. A group whose evidence is awaited is left for the next time.
    """
    due = locked(session, NotificationGroup.due_at <= now_us)
    active = silences.active(session, now_us)
    count = 0
    for row, due_at in sorted(((row, row.due_at or now_us) for row in due), key=lambda pair: pair[1]):
        group = group_from(row)
        until = {i: end for i, m in group.members.items() if (end := _silenced_until(active, m)) is not None}
        telling = look(group, until, due_at)
        if telling and now_us - due_at < EVIDENCE_WAIT_US and _evidence_awaited(session, telling):
            continue
        if telling:
            count += _enqueue(session, row.channel, group, telling, rules, url, now_us)
        store(session, row.channel, row, after_look(group, telling, until, due_at, now_us))
    return count


def _silenced_until(active: Sequence[Silence], member: Change) -> int | None:
    labels = {**member.labels, "alertname": member.alert, "severity": member.severity}
    found = silences.first_match(active, labels)
    return found.ends_at if found else None


def _evidence_awaited(session: Session, telling: Telling) -> bool:
    """Whether a runbook is still to answer for the incident and phase of something new."""
    phases = {
        (member.incident_id, "fire" if member.resolved_at is None else "resolve")
        for member in telling.news
        if member.incident_id is not None
    }
    return any(
        session.scalar(
            select(
                exists().where(
                    RunbookRun.incident_id == incident,
                    RunbookRun.phase == phase,
                    RunbookRun.status.in_(("pending", "running")),
                )
            )
        )
        for incident, phase in phases
    )


def _enqueue(
    session: Session,
    channel: str,
    group: Group,
    telling: Telling,
    rules: Mapping[str, Rule],
    url: str,
    now_us: int,
) -> int:
    """Writes the outbox row, unless this very content is there already, or would only be repeated while the
    group's last message is still on its way.
    """
    key = key_of(channel, group, telling)
    on_its_way = (Notification.channel == channel, Notification.group_key == group.key, UNDELIVERED)
    if session.scalar(select(exists().where(Notification.key == key))):
        return 0
    if telling.repeat and session.scalar(select(exists().where(*on_its_way))):
        return 0
    about = context(session, telling, rules, url)
    session.add(
        Notification(
            key=key,
            channel=channel,
            group_key=group.key,
            incident_id=incident_of(telling),
            reason=telling.reason,
            body=compose(group, telling, about, now_us),
            status="pending",
            created_at=now_us,
            next_try_at=now_us,
            drill=group.drill,
        )
    )
    return 1
