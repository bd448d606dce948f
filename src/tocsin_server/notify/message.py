"""What a notification says: one JSON body per message, made when it is put into the outbox and kept there.

The body is the same for every attempt, so that the same key always carries the same content. It holds what
may leave: counts instead of ids, scrubbed labels, no line of any log.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from tocsin_server.clock import iso
from tocsin_server.config import Settings
from tocsin_server.notify.grouping import Change, Group, Telling
from tocsin_server.notify.wording import (
    alert_title,
    clock_time,
    counted,
    headline,
    measured,
    people,
    shown,
    shown_labels,
    worst,
)
from tocsin_server.rules import Rule
from tocsin_server.state.tables import Incident, RunbookRun

#: Instances that a message lists; the rest is counted and linked.
MAX_MEMBERS = 20
MAX_CAUSES = 3


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt to hand a message over, at ``at`` (µs); ``key`` is the same in every attempt."""

    key: str
    attempt: int
    channel: str
    group_key: str
    body: Mapping[str, Any]
    at: int
    base_url: str


@dataclass(frozen=True, slots=True)
class Context:
    """What is known about the incident of a message."""

    incident: Incident | None = None
    runs: Sequence[RunbookRun] = ()
    rules: Mapping[str, Rule] = field(default_factory=dict)
    base_url: str = ""


def base_url(settings: Settings) -> str:
    """Where people reach the web pages, without a slash at the end."""
    host = f"[{settings.listen.host}]" if ":" in settings.listen.host else settings.listen.host
    return (settings.listen.url or f"http://{host}:{settings.listen.port}").rstrip("/")


def incident_of(telling: Telling) -> int | None:
    """The incident that a message is about: that of what is new in it, else of any member."""
    return next((m.incident_id for m in (*telling.news, *telling.members) if m.incident_id is not None), None)


def context(session: Session, telling: Telling, rules: Mapping[str, Rule], url: str) -> Context:
    """Reads the incident of a message and what its runbooks found when the alert fired."""
    number = incident_of(telling)
    if number is None:
        return Context(rules=rules, base_url=url)
    mine = (RunbookRun.incident_id == number, RunbookRun.phase == "fire")
    runs = session.scalars(select(RunbookRun).where(*mine).order_by(RunbookRun.id.desc())).all()
    return Context(session.get(Incident, number), runs, rules, url)


# --- bodies ---------------------------------------------------------------------------------------------


def compose(group: Group, telling: Telling, about: Context, now_us: int) -> dict[str, Any]:
    """The body of a group's message; ``title`` is one sentence that says it all."""
    firing = [member for member in telling.members if member.resolved_at is None]
    listed = sorted(telling.members, key=lambda member: (member.resolved_at is not None, member.fired_at))
    body: dict[str, Any] = {
        "title": "",
        "status": "firing" if firing else "resolved",
        "severity": worst(member.severity for member in firing or telling.members),
        "reason": telling.reason,
        "group": shown_labels(group.labels),
        "firing": len(firing),
        "resolved": len(telling.members) - len(firing),
        "members": [_member(member, about) for member in listed[:MAX_MEMBERS]],
        "more": max(0, len(listed) - MAX_MEMBERS),
        "incident": _incident(about),
        "affected": _affected(about.incident),
        "causes": _causes(about.runs),
        "runbooks": _runbooks(telling.members, about),
        "mark": "DRILL" if group.drill else "",
    }
    return {**body, "title": _title(body, headline(telling.members, about.rules, now_us))}


def notice(title: str, reason: str, severity: str, mark: str = "") -> dict[str, Any]:
    """The body of a message that is about no alert instance: a test, a channel that fails."""
    return {
        "title": title,
        "status": "firing",
        "severity": severity,
        "reason": reason,
        "group": {},
        "firing": 0,
        "resolved": 0,
        "members": [],
        "more": 0,
        "incident": None,
        "affected": {},
        "causes": [],
        "runbooks": [],
        "mark": mark,
    }


def failing_notice(channel: str, waiting: int, oldest_at: int, answer: str, now_us: int) -> dict[str, Any]:
    """``NotificationFailing``: what another channel is told about ``channel``."""
    since = clock_time(oldest_at, now_us)
    title = f"FIRING warning: Notification Failing, receiver={channel}: "
    title += (
        f"{counted(waiting, 'message')} not delivered, the oldest of {since}; last answer: {shown(answer)}"
    )
    member = {
        "alert": "NotificationFailing",
        "title": "Notification Failing",
        "labels": {"receiver": channel},
        "severity": "warning",
        "status": "firing",
        "fired_at": iso(oldest_at),
        "resolved_at": None,
        "value": waiting,
        "measured": f"{counted(waiting, 'message')} not delivered",
        "action": f"Check the channel {channel} in tocsin.yaml and `tocsin notify {channel}`",
        "fingerprint": fingerprint("NotificationFailing", {"receiver": channel}),
    }
    body = notice(title, "notification_failing", "warning")
    return {**body, "group": {"alertname": "NotificationFailing"}, "firing": 1, "members": [member]}


def trial_notice(channel: str, now_us: int) -> dict[str, Any]:
    """The body of a test message; it is marked as one."""
    title = f"TEST: notifications of Tocsin reach {channel}, {clock_time(now_us, now_us)}; nothing is wrong"
    return {**notice(title, "test", "info", "TEST"), "group": {"alertname": "NotificationTest"}}


def fingerprint(alert: str, labels: Mapping[str, str]) -> str:
    """16 hexadecimal digits that identify an instance."""
    text = "\xff".join(f"{name}\xfe{value}" for name, value in sorted({"alertname": alert, **labels}.items()))
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]


# --- parts ----------------------------------------------------------------------------------------------


def _title(body: Mapping[str, Any], sentence: str) -> str:
    start = f"{body['mark']} {body['status'].upper()} {body['severity']}: {sentence}".strip()
    parts = [start]
    affected = [text for text in body["affected"].values() if text]
    if affected:
        parts.append(f"{' and '.join(affected)} affected")
    if body["causes"]:
        cause = body["causes"][0]
        parts.append(f"{cause['strength']} cause: {cause['title']}")
    return "; ".join(parts)


def _member(member: Change, about: Context) -> dict[str, Any]:
    rule = about.rules.get(member.alert)
    labels = shown_labels(member.labels)
    return {
        "alert": shown(member.alert),
        "title": alert_title(member.alert, rule),
        "labels": labels,
        "severity": member.severity,
        "status": "firing" if member.resolved_at is None else "resolved",
        "fired_at": iso(member.fired_at),
        "resolved_at": None if member.resolved_at is None else iso(member.resolved_at),
        "value": member.value,
        "measured": measured(member, rule),
        "action": rule.action if rule else "",
        "fingerprint": fingerprint(member.alert, labels),
    }


def _incident(about: Context) -> dict[str, Any] | None:
    incident = about.incident
    if incident is None:
        return None
    return {
        "id": incident.id,
        "title": shown(incident.title),
        "opened_at": iso(incident.opened_at),
        "url": f"{about.base_url}/incidents/{incident.id}",
    }


def _affected(incident: Incident | None) -> dict[str, str]:
    """Counts only: who they are stays on the incident."""
    tenants, users = (incident.tenants, incident.users) if incident else (None, None)
    return {
        "tenants": counted(tenants["count"], "tenant") if tenants and tenants.get("count") else "",
        "users": people(users["count"]) if users and users.get("count") else "",
    }


def _causes(runs: Sequence[RunbookRun]) -> list[dict[str, Any]]:
    """The best causes of the newest run of each runbook, likely ones first."""
    newest: dict[str, RunbookRun] = {}
    for run in runs:
        if run.status == "done":
            newest.setdefault(run.runbook, run)
    found = [(cause, run.runbook) for run in newest.values() for cause in run.causes]
    found.sort(key=lambda pair: pair[0]["strength"] != "likely")
    return [
        {
            "title": shown(cause["title"]),
            "strength": cause["strength"],
            "because": [shown(reason) for reason in cause["because"][:MAX_CAUSES]],
            "runbook": runbook,
        }
        for cause, runbook in found[:MAX_CAUSES]
    ]


def _runbooks(members: Sequence[Change], about: Context) -> list[dict[str, str]]:
    rules = [about.rules[name] for name in dict.fromkeys(m.alert for m in members) if name in about.rules]
    names = [name for rule in rules for name in rule.runbooks] + [run.runbook for run in about.runs]
    return [{"id": name, "url": f"{about.base_url}/runbooks/{name}"} for name in dict.fromkeys(names)]
