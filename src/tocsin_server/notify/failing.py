"""``NotificationFailing``: when a channel does not deliver, another one is told, at most once an hour.

A message that is undelivered for five minutes, or refused for good, makes its channel a failing one. It is
told through the first other channel that works; without one the ledger is the only place that shows it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from tocsin_server.clock import SECOND_US
from tocsin_server.notify.ledger import UNDELIVERED
from tocsin_server.notify.message import failing_notice
from tocsin_server.state.tables import DeliveryAttempt, Notification

#: A message that waits longer makes its channel a failing one.
OVERDUE_US = 300 * SECOND_US
#: A failing channel is told of this often.
TOLD_EVERY_US = 3600 * SECOND_US
REASON = "notification_failing"


def overdue(session: Session, now_us: int) -> list[str]:
    """The channels with a message that is undelivered for five minutes."""
    late = select(Notification.channel).where(UNDELIVERED, Notification.created_at <= now_us - OVERDUE_US)
    return sorted(set(session.scalars(late)))


def to_tell(session: Session, now_us: int) -> list[str]:
    """The overdue channels that nobody was told of in the last hour."""
    return [channel for channel in overdue(session, now_us) if not _told(session, channel, now_us)]


def tell(session: Session, channels: Iterable[str], failing: str, now_us: int) -> int:
    """Puts a message about ``failing`` into the outbox of another of ``channels``; how many (0 or 1)."""
    broken = {failing, *overdue(session, now_us)}
    other = next((channel for channel in channels if channel not in broken), None)
    if other is None or _told(session, failing, now_us):
        return 0
    body = failing_notice(failing, *_trouble(session, failing, now_us), now_us)
    content = f"{other} {REASON} {failing} {now_us // TOLD_EVERY_US}"
    session.add(
        Notification(
            key=hashlib.sha256(content.encode()).hexdigest(),
            channel=other,
            group_key=_group_key(failing),
            incident_id=None,
            reason=REASON,
            body=body,
            status="pending",
            created_at=now_us,
            next_try_at=now_us,
        )
    )
    return 1


def _told(session: Session, failing: str, now_us: int) -> bool:
    about = (Notification.reason == REASON, Notification.group_key == _group_key(failing))
    recent = Notification.created_at > now_us - TOLD_EVERY_US
    return bool(session.scalar(select(exists().where(*about, recent))))


def _trouble(session: Session, failing: str, now_us: int) -> tuple[int, int, str]:
    """(how many messages, since when, the last answer); a refused message alone counts as one of now."""
    mine = (Notification.channel == failing, UNDELIVERED)
    waiting, oldest = session.execute(
        select(func.count(), func.min(Notification.created_at)).where(*mine)
    ).one()
    last = (
        select(DeliveryAttempt.answer)
        .join(Notification, Notification.id == DeliveryAttempt.notification_id)
        .where(Notification.channel == failing)
        .order_by(DeliveryAttempt.id.desc())
        .limit(1)
    )
    return max(1, waiting), oldest or now_us, session.scalar(last) or "none yet"


def _group_key(failing: str) -> str:
    return f"{REASON} {failing}"
