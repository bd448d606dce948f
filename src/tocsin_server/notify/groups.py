"""Alert instances come in, groups of them are kept per channel until they are told.

The decisions are in :mod:`tocsin_server.notify.grouping`; here they meet the database.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from tocsin_server.config import Route
from tocsin_server.notify.grouping import Change, Group, joined_all
from tocsin_server.state.tables import NotificationGroup

__all__ = ["Change", "observe", "observe_all"]


def observe(session: Session, routes: Sequence[Route], change: Change, now_us: int) -> None:
    """Takes one change of an instance into the groups of every channel that is to hear of it."""
    observe_all(session, routes, [change], now_us)


def observe_all(session: Session, routes: Sequence[Route], changes: Sequence[Change], now_us: int) -> None:
    """Takes changes, in their order; each channel's groups are read and written once."""
    told = [(change, channels_for(routes, change.severity)) for change in changes]
    for channel in sorted({name for _change, channels in told for name in channels}):
        _take(session, channel, [change for change, channels in told if channel in channels], now_us)


def channels_for(routes: Sequence[Route], severity: str) -> list[str]:
    """Every channel of every route that matches, each once, in their order."""
    names = (name for route in routes if route.severity in (None, severity) for name in route.to)
    return list(dict.fromkeys(names))


def _take(session: Session, channel: str, changes: Iterable[Change], now_us: int) -> None:
    rows = {row.group_key: row for row in locked(session, NotificationGroup.channel == channel)}
    before = {key: group_from(row) for key, row in rows.items()}
    after, touched = joined_all(before, changes, now_us)
    for key in touched:
        if after.get(key) != before.get(key):
            store(session, channel, rows.get(key), after.get(key))


def locked(session: Session, which: ColumnElement[bool]) -> Sequence[NotificationGroup]:
    """Rows that nobody else changes until the transaction ends: two steps of the flow read and write them.
    SQLite has one writer anyway; elsewhere they are locked, always in the same order.
    """
    rows = select(NotificationGroup).where(which).with_for_update()
    return session.scalars(rows.order_by(NotificationGroup.channel, NotificationGroup.group_key)).all()


def group_from(row: NotificationGroup) -> Group:
    """The group that a row holds."""
    members, sent = ([Change.from_row(entry) for entry in part] for part in (row.members, row.sent))
    return Group(
        key=row.group_key,
        labels=row.labels,
        drill=row.drill,
        members={member.identity: member for member in members},
        sent={member.identity: member for member in sent},
        due_at=row.due_at,
        last_sent_at=row.last_sent_at,
    )


def store(session: Session, channel: str, row: NotificationGroup | None, group: Group | None) -> None:
    """Makes the row what the group is: written, changed, or gone."""
    if group is None:
        if row is not None:
            session.delete(row)
        return
    values: dict[str, Any] = {
        "labels": dict(group.labels),
        "drill": group.drill,
        "members": [member.as_row() for member in group.members.values()],
        "sent": [member.as_row() for member in group.sent.values()],
        "due_at": group.due_at,
        "last_sent_at": group.last_sent_at,
    }
    if row is None:
        session.add(NotificationGroup(channel=channel, group_key=group.key, **values))
        return
    for name, value in values.items():
        setattr(row, name, value)
