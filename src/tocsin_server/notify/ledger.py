"""The outbox as rows, and the delivery ledger: what is to be sent, what was tried, what receivers answered.

A row has a ``next_try_at`` until it is delivered or dead. Messages of one group to one channel keep their
order: only the first that is undelivered may be sent (row E2 of the reliability bar). An attempt is counted
before it is made, so that its number is never used twice (row E3).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Literal, NamedTuple

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from tocsin_server.clock import iso
from tocsin_server.notify.message import Delivery
from tocsin_server.notify.retry import Answer, Random, next_try_at
from tocsin_server.state.tables import DeliveryAttempt, Notification, TimelineEntry

UNDELIVERED = Notification.next_try_at.is_not(None)
_INTERRUPTED = "interrupted: the process ended before there was an answer"


class Taken(NamedTuple):
    """A row that is being sent."""

    id: int
    delivery: Delivery


def first_of_each_group() -> Select[Notification]:
    """The messages whose turn it is, those in flight left out."""
    heads = select(func.min(Notification.id)).where(UNDELIVERED)
    heads = heads.group_by(Notification.channel, Notification.group_key)
    return select(Notification).where(Notification.id.in_(heads), Notification.status == "pending")


def ready_channels(session: Session, now_us: int) -> list[str]:
    """The channels that have something to send now."""
    ready = first_of_each_group().where(Notification.next_try_at <= now_us)
    return sorted({row.channel for row in session.scalars(ready)})


def take(session: Session, channel: str, url: str, now_us: int) -> Taken | None:
    """Marks the channel's next message as being sent and counts the attempt; None: nothing is ready."""
    mine = first_of_each_group().where(Notification.channel == channel, Notification.next_try_at <= now_us)
    row = session.scalars(mine.order_by(Notification.next_try_at, Notification.id).limit(1)).first()
    if row is None:
        return None
    row.status = "sending"
    row.attempts += 1
    return Taken(row.id, Delivery(row.key, row.attempts, channel, row.group_key, row.body, now_us, url))


def record(
    session: Session, taken: Taken, answer: Answer, duration_ms: float, now_us: int, random: Random
) -> Literal["pending", "delivered", "dead"]:
    """Writes an attempt into the ledger and what follows from it; the row's new status."""
    row = session.get_one(Notification, taken.id)
    delivery = taken.delivery
    row.next_try_at = next_try_at(answer, delivery.attempt, row.created_at, now_us, random)
    status = _status(answer, row.next_try_at)
    row.status = status
    row.delivered_at = now_us if status == "delivered" else None
    session.add(
        DeliveryAttempt(
            notification_id=row.id,
            number=delivery.attempt,
            started_at=delivery.at,
            duration_ms=duration_ms,
            outcome=answer.outcome,
            answer=answer.text,
            next_try_at=row.next_try_at,
        )
    )
    _tell_timeline(session, row, answer, now_us)
    return status


def _status(answer: Answer, next_at: int | None) -> Literal["pending", "delivered", "dead"]:
    if answer.outcome == "accepted":
        return "delivered"
    return "dead" if next_at is None else "pending"


def _tell_timeline(session: Session, row: Notification, answer: Answer, now_us: int) -> None:
    if row.incident_id is None or row.status == "pending":
        return
    told = f"told {row.channel}: {row.body['title']}"
    text = told if row.status == "delivered" else f"could not tell {row.channel}: {answer.text}"
    session.add(TimelineEntry(incident_id=row.incident_id, at=now_us, kind="notification", text=text))


def interrupted(in_flight: Collection[str]) -> Select[Notification]:
    """Rows that were being sent when a process ended; ``in_flight`` are the channels that send now."""
    sending = (Notification.status == "sending", Notification.channel.not_in(in_flight))
    return select(Notification).where(UNDELIVERED, *sending)


def recover(session: Session, in_flight: Collection[str], now_us: int) -> int:
    """Puts interrupted rows back: nobody knows whether they arrived, so they go again with the same key."""
    rows = session.scalars(interrupted(in_flight)).all()
    for row in rows:
        attempt = DeliveryAttempt(
            notification_id=row.id,
            number=row.attempts,
            started_at=row.next_try_at or now_us,
            duration_ms=0.0,
            outcome="retry",
            answer=_INTERRUPTED,
            next_try_at=now_us,
        )
        session.add(attempt)
        row.status, row.next_try_at = "pending", now_us
    return len(rows)


# --- what people see ------------------------------------------------------------------------------------


def deliveries(session: Session, limit: int, incident_id: int | None = None) -> list[dict[str, Any]]:
    """The ledger, newest message first: to whom, why, its status, every attempt with its answer, next try.

    Times are ISO 8601; of one incident when ``incident_id`` is given.
    """
    rows = select(Notification).order_by(Notification.id.desc()).limit(limit)
    if incident_id is not None:
        rows = rows.where(Notification.incident_id == incident_id)
    found = session.scalars(rows).all()
    mine = select(DeliveryAttempt).where(DeliveryAttempt.notification_id.in_([row.id for row in found]))
    attempts: dict[int, list[DeliveryAttempt]] = {row.id: [] for row in found}
    for attempt in session.scalars(mine.order_by(DeliveryAttempt.id)):
        attempts[attempt.notification_id].append(attempt)
    return [as_json(row, attempts[row.id]) for row in found]


def as_json(row: Notification, attempts: Iterable[DeliveryAttempt]) -> dict[str, Any]:
    """One message with its attempts, as :func:`deliveries` lists them."""
    return {
        "id": row.id,
        "key": row.key,
        "channel": row.channel,
        "reason": row.reason,
        "title": row.body["title"],
        "incident": row.incident_id,
        "status": row.status,
        "created_at": iso(row.created_at),
        "delivered_at": _iso(row.delivered_at),
        "next_try_at": _iso(row.next_try_at),
        "attempts": [_attempt(one) for one in attempts],
        "drill": row.drill,
    }


def _attempt(attempt: DeliveryAttempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "at": iso(attempt.started_at),
        "ms": round(attempt.duration_ms, 1),
        "outcome": attempt.outcome,
        "answer": attempt.answer,
        "next_try_at": _iso(attempt.next_try_at),
    }


def _iso(at_us: int | None) -> str | None:
    return None if at_us is None else iso(at_us)
