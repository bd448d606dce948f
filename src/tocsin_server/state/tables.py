"""The operational state as tables: what is firing, which incidents are open, who was told, what was asked.

One row is one fact of one step of the flow; a step reads the rows of the step before it and writes its own in
one transaction. All times are microseconds since the epoch, UTC. Labels are stored as a JSON object and, for
identity, as its canonical text (:func:`labels_key`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Float, ForeignKey, Index, Integer, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

#: SQLite gives only INTEGER primary keys the next number by itself.
_Id = BigInteger().with_variant(Integer, "sqlite")


def labels_key(labels: Mapping[str, str]) -> str:
    """The canonical text of a label set: what identifies an instance within its alert."""
    return json.dumps(dict(sorted(labels.items())), separators=(",", ":"), ensure_ascii=False)


class Base(DeclarativeBase):
    """All tables."""


class EvaluatorProgress(Base):
    """One row (id 1): the last instant that every rule was evaluated at."""

    __tablename__ = "evaluator_progress"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    last_at: Mapped[int] = mapped_column(BigInteger)


class AlertState(Base):
    """An alert instance that is pending or firing (:class:`tocsin_server.evaluate.State`)."""

    __tablename__ = "alert_state"

    alert: Mapped[str] = mapped_column(String(100), primary_key=True)
    labels_key: Mapped[str] = mapped_column(Text, primary_key=True)
    labels: Mapped[dict[str, str]] = mapped_column(JSON)
    pending_at: Mapped[int] = mapped_column(BigInteger)
    active_at: Mapped[int] = mapped_column(BigInteger)
    fired_at: Mapped[int | None] = mapped_column(BigInteger)
    keep_since: Mapped[int | None] = mapped_column(BigInteger)
    value: Mapped[float | None] = mapped_column(Float(53))


class AlertTransition(Base):
    """One change of an instance (:class:`tocsin_server.evaluate.Transition`), in the order of ids.

    ``superseded``: a later instant of the same catch-up already undid it, so it is recorded but not acted on.
    ``handled_at``: when the incident step consumed it. ``drill``: the marker of a drill, empty for real ones.
    """

    __tablename__ = "alert_transition"
    __table_args__ = (Index("alert_transition_by_alert", "alert", "at"),)

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    at: Mapped[int] = mapped_column(BigInteger)
    evaluated_at: Mapped[int] = mapped_column(BigInteger)
    alert: Mapped[str] = mapped_column(String(100))
    labels_key: Mapped[str] = mapped_column(Text)
    labels: Mapped[dict[str, str]] = mapped_column(JSON)
    to: Mapped[str] = mapped_column(String(10))
    pending_at: Mapped[int] = mapped_column(BigInteger)
    fired_at: Mapped[int | None] = mapped_column(BigInteger)
    value: Mapped[float | None] = mapped_column(Float(53))
    superseded: Mapped[bool] = mapped_column(Boolean, default=False)
    handled_at: Mapped[int | None] = mapped_column(BigInteger, index=True)
    drill: Mapped[str] = mapped_column(String(32), default="")


class RuleFailure(Base):
    """A rule whose query fails since ``since``; the row goes when it works again."""

    __tablename__ = "rule_failure"

    alert: Mapped[str] = mapped_column(String(100), primary_key=True)
    since: Mapped[int] = mapped_column(BigInteger)
    message: Mapped[str] = mapped_column(Text)


class Incident(Base):
    """What people work on: opened by a firing alert, joined by related ones, over when all are resolved.

    ``status``: ``open``, ``acknowledged`` or ``resolved``. ``tenants`` and ``users``: affected ones, as
    ``{"ids": [...first...], "count": n}``, users by pseudonym.
    """

    __tablename__ = "incident"

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    title: Mapped[str] = mapped_column(Text)
    severity: Mapped[str] = mapped_column(String(10))
    environment: Mapped[str] = mapped_column(Text)
    status: Mapped[str] = mapped_column(String(12), index=True)
    opened_at: Mapped[int] = mapped_column(BigInteger)
    acknowledged_at: Mapped[int | None] = mapped_column(BigInteger)
    acknowledged_by: Mapped[str | None] = mapped_column(Text)
    resolved_at: Mapped[int | None] = mapped_column(BigInteger)
    resolved_by: Mapped[str | None] = mapped_column(Text)
    tenants: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    users: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    drill: Mapped[str] = mapped_column(String(32), default="")


class IncidentAlert(Base):
    """One firing episode of one alert instance that belongs to an incident."""

    __tablename__ = "incident_alert"

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    incident_id: Mapped[int] = mapped_column(ForeignKey("incident.id"), index=True)
    alert: Mapped[str] = mapped_column(String(100))
    labels_key: Mapped[str] = mapped_column(Text)
    labels: Mapped[dict[str, str]] = mapped_column(JSON)
    severity: Mapped[str] = mapped_column(String(10))
    pending_at: Mapped[int] = mapped_column(BigInteger)
    fired_at: Mapped[int] = mapped_column(BigInteger)
    resolved_at: Mapped[int | None] = mapped_column(BigInteger)
    value: Mapped[float | None] = mapped_column(Float(53))


class TimelineEntry(Base):
    """What happened in an incident, in order. ``kind``: ``opened``, ``joined``, ``escalated``, ``evidence``,
    ``cause``, ``notification``, ``acknowledged``, ``note``, ``alert_resolved``, ``resolved`` …
    """

    __tablename__ = "timeline_entry"

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    incident_id: Mapped[int] = mapped_column(ForeignKey("incident.id"), index=True)
    at: Mapped[int] = mapped_column(BigInteger)
    kind: Mapped[str] = mapped_column(String(20))
    text: Mapped[str] = mapped_column(Text)
    who: Mapped[str] = mapped_column(Text, default="")


class RunbookRun(Base):
    """One run of a runbook's read-only steps. ``phase``: ``fire``, ``resolve`` or ``manual``; ``status``:
    ``pending``, ``running``, ``done`` or ``interrupted`` (the process ended; it is never run again by
    itself). ``labels``: of the alert, for inputs. ``causes``: the ranking, ``[{"cause", "title", "strength",
    "because": [...]}]``, best first.
    """

    __tablename__ = "runbook_run"

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    incident_id: Mapped[int | None] = mapped_column(ForeignKey("incident.id"), index=True)
    runbook: Mapped[str] = mapped_column(String(64))
    phase: Mapped[str] = mapped_column(String(8))
    status: Mapped[str] = mapped_column(String(12), index=True)
    created_at: Mapped[int] = mapped_column(BigInteger)
    #: The instant that the steps look back from (the alert's, not the clock's).
    as_of: Mapped[int] = mapped_column(BigInteger)
    labels: Mapped[dict[str, str]] = mapped_column(JSON)
    inputs: Mapped[dict[str, Any]] = mapped_column(JSON)
    started_at: Mapped[int | None] = mapped_column(BigInteger)
    finished_at: Mapped[int | None] = mapped_column(BigInteger)
    file_sha256: Mapped[str | None] = mapped_column(String(64))
    reason: Mapped[str] = mapped_column(Text, default="")
    causes: Mapped[list[dict[str, Any]]] = mapped_column(JSON, default=list)
    requested_by: Mapped[str] = mapped_column(Text, default="")


class Evidence(Base):
    """What one step of a run found, redacted before it is stored here.

    ``status``: ``ok``, ``failed``, ``skipped``, ``refused`` or ``not_connected``; ``rendered`` is the step as
    it was sent (parameters beside it); ``rows`` are lists in the order of ``columns``; ``http`` is
    ``{"status", "headers", "body"}``; ``findings`` are ``[{"condition", "verdict", "strength", "text",
    "cause"}]`` with the verdict true, false or null (unknown). ``sha256`` is over the stored answer.
    """

    __tablename__ = "evidence"

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runbook_run.id"), index=True)
    ordinal: Mapped[int] = mapped_column(Integer)
    step: Mapped[str] = mapped_column(String(64))
    title: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(String(8))
    connection: Mapped[str] = mapped_column(Text)
    target: Mapped[str] = mapped_column(Text)
    rendered: Mapped[str] = mapped_column(Text)
    parameters: Mapped[dict[str, Any]] = mapped_column(JSON)
    block_sha256: Mapped[str] = mapped_column(String(64))
    status: Mapped[str] = mapped_column(String(14))
    reason: Mapped[str] = mapped_column(Text)
    started_at: Mapped[int | None] = mapped_column(BigInteger)
    duration_ms: Mapped[float | None] = mapped_column(Float(53))
    columns: Mapped[list[str]] = mapped_column(JSON)
    rows: Mapped[list[list[Any]]] = mapped_column(JSON)
    http: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    truncated: Mapped[bool] = mapped_column(Boolean)
    redactions: Mapped[int] = mapped_column(Integer)
    findings: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    sha256: Mapped[str] = mapped_column(String(64))


class NotificationGroup(Base):
    """Alert instances that are told together to one channel, and when (Alertmanager's grouping).

    ``members``: the instances of the group now, ``[{"alert", "labels", "fired_at", "resolved_at", "value",
    "severity", "incident_id"}]``. ``due_at``: when to look at the group next. ``sent``: the members that the
    last notification told.
    """

    __tablename__ = "notification_group"

    channel: Mapped[str] = mapped_column(String(100), primary_key=True)
    group_key: Mapped[str] = mapped_column(Text, primary_key=True)
    labels: Mapped[dict[str, str]] = mapped_column(JSON)
    members: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    sent: Mapped[list[dict[str, Any]]] = mapped_column(JSON, default=list)
    due_at: Mapped[int | None] = mapped_column(BigInteger, index=True)
    last_sent_at: Mapped[int | None] = mapped_column(BigInteger)
    drill: Mapped[str] = mapped_column(String(32), default="")


class Notification(Base):
    """The outbox: one message to one channel. ``key`` is its idempotency key: the same content has the same
    key, also after a crash. ``status``: ``pending``, ``sending`` (in flight), ``delivered`` or ``dead``.
    """

    __tablename__ = "notification"

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    key: Mapped[str] = mapped_column(String(64), unique=True)
    channel: Mapped[str] = mapped_column(String(100))
    group_key: Mapped[str] = mapped_column(Text)
    incident_id: Mapped[int | None] = mapped_column(BigInteger, index=True)
    reason: Mapped[str] = mapped_column(String(20))
    body: Mapped[dict[str, Any]] = mapped_column(JSON)
    status: Mapped[str] = mapped_column(String(10))
    created_at: Mapped[int] = mapped_column(BigInteger)
    next_try_at: Mapped[int | None] = mapped_column(BigInteger, index=True)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    delivered_at: Mapped[int | None] = mapped_column(BigInteger)
    drill: Mapped[str] = mapped_column(String(32), default="")


class DeliveryAttempt(Base):
    """The delivery ledger: one attempt to send one notification, and what the receiver answered.

    ``outcome``: ``accepted``, ``retry`` (told to, or the failure may pass) or ``refused`` (for good).
    """

    __tablename__ = "delivery_attempt"

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    notification_id: Mapped[int] = mapped_column(ForeignKey("notification.id"), index=True)
    number: Mapped[int] = mapped_column(Integer)
    started_at: Mapped[int] = mapped_column(BigInteger)
    duration_ms: Mapped[float] = mapped_column(Float(53))
    outcome: Mapped[str] = mapped_column(String(10))
    answer: Mapped[str] = mapped_column(Text)
    next_try_at: Mapped[int | None] = mapped_column(BigInteger)


class Silence(Base):
    """Suppresses notifications only. ``matchers``: ``[{"name", "operator", "value"}]``, operator one of
    ``= != =~ !~``, regular expressions fully anchored.
    """

    __tablename__ = "silence"

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    matchers: Mapped[list[dict[str, str]]] = mapped_column(JSON)
    starts_at: Mapped[int] = mapped_column(BigInteger)
    ends_at: Mapped[int] = mapped_column(BigInteger)
    author: Mapped[str] = mapped_column(Text)
    comment: Mapped[str] = mapped_column(Text)
    created_at: Mapped[int] = mapped_column(BigInteger)


class AuditEntry(Base):
    """Append-only: who changed what. Written before the change, in its transaction."""

    __tablename__ = "audit_entry"

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    at: Mapped[int] = mapped_column(BigInteger)
    who: Mapped[str] = mapped_column(Text)
    action: Mapped[str] = mapped_column(String(40))
    subject: Mapped[str] = mapped_column(Text)
    detail: Mapped[dict[str, Any]] = mapped_column(JSON)
