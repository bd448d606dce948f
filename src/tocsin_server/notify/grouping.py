"""Which alert instances are told together, and when: pure decisions over groups.

The timing is Alertmanager's. A new group waits ``GROUP_WAIT_US`` for company (nothing when an instance is
critical), changes of a group already told come ``GROUP_INTERVAL_US`` apart, and what goes on firing is
repeated every ``REPEAT_INTERVAL_US``. Two rules are ours: the end of everything that a group told is told at
once, and the resolve of what was never told is not told either.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tocsin_server.clock import SECOND_US
from tocsin_server.state.tables import labels_key

GROUP_WAIT_US = 30 * SECOND_US
GROUP_INTERVAL_US = 300 * SECOND_US
#: A multiple of the group interval, so that repeats and changes keep one beat.
REPEAT_INTERVAL_US = 48 * GROUP_INTERVAL_US
#: A group with silenced members is looked at this often, in case that the silence is ended early.
SILENCE_LOOK_US = 60 * SECOND_US
#: Above this number of groups, a channel's further instances are told together (row E11 of the reliability
#: bar: a storm of 10,000 instances is at most 20 notifications).
MAX_GROUPS = 15

GROUP_BY = ("alertname", "service", "environment")

Reason = Literal["first", "new_alerts", "some_resolved", "all_resolved", "repeat"]
#: (alert, canonical labels): one instance, whatever its episode.
Identity = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Change:
    """An alert instance that fired, or that resolved (``resolved_at`` set). Times in microseconds, UTC.

    ``incident_id`` is None for rules about the alerting itself; ``drill`` marks what only rehearses.
    """

    alert: str
    labels: Mapping[str, str]
    severity: str
    fired_at: int
    resolved_at: int | None
    value: float | None
    incident_id: int | None
    drill: str

    @property
    def identity(self) -> Identity:
        """What stays the same from one episode to the next."""
        return self.alert, labels_key(self.labels)

    @property
    def told_as(self) -> tuple[str, str, int, str]:
        """What a notification says of it: the same again is nothing new."""
        return *self.identity, self.fired_at, "firing" if self.resolved_at is None else "resolved"

    def as_row(self) -> dict[str, Any]:
        """Plain values for JSON."""
        row = {name: getattr(self, name) for name in self.__slots__}  # asdict copies deeply: a storm is slow
        return {**row, "labels": dict(self.labels)}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Change:
        """The change that :meth:`as_row` wrote."""
        return cls(**row)


Members = dict[Identity, Change]


@dataclass(frozen=True, slots=True)
class Group:
    """Instances that are told together to one channel.

    ``sent``: the firing ones as they were last told. ``last_sent_at``: when the last message was due, on the
    beat of the repeats. ``due_at``: when to look next.
    """

    key: str
    labels: Mapping[str, str]
    drill: str
    members: Members = field(default_factory=dict)
    sent: Members = field(default_factory=dict)
    due_at: int | None = None
    last_sent_at: int | None = None


@dataclass(frozen=True, slots=True)
class Telling:
    """A message that a group has to send: what is told, why, and what of it is new."""

    members: tuple[Change, ...]
    news: tuple[Change, ...]
    reason: Reason
    #: How often the same content was told before.
    repeat: int


# --- a change comes in ----------------------------------------------------------------------------------


def group_of(change: Change) -> Group:
    """The empty group that a change belongs to; a drill never shares one with what is real."""
    named = {"alertname": change.alert, **change.labels}
    labels = {name: named.get(name, "") for name in GROUP_BY}
    return Group(labels_key({**labels, "drill": change.drill}), labels, change.drill)


def shared_group(drill: str) -> Group:
    """The group of the instances above :data:`MAX_GROUPS`."""
    labels = dict.fromkeys(GROUP_BY, "")
    return Group(labels_key({**labels, "drill": drill}), labels, drill)


def place(groups: Mapping[str, Group], change: Change) -> Group:
    """The group, of a channel's groups by key, that takes a change: its own, or the shared one."""
    shared, own = shared_group(change.drill), group_of(change)
    if shared.key in groups and change.identity in groups[shared.key].members:
        return groups[shared.key]
    if own.key in groups or len(groups) < MAX_GROUPS:
        return groups.get(own.key, own)
    return groups.get(shared.key, shared)


def joined(group: Group, change: Change, now_us: int) -> Group | None:
    """The group after a change; None when nothing is left in it."""
    if group.members.get(change.identity) == change:
        return group
    members = {**group.members, change.identity: change}
    if change.resolved_at is not None and change.identity not in group.sent:
        del members[change.identity]
    if not members:
        return None
    due_at = _due_after(replace(group, members=members), change, now_us)
    return replace(group, members=members, due_at=due_at)


def _due_after(group: Group, change: Change, now_us: int) -> int:
    wait_us = 0 if change.severity == "critical" else GROUP_WAIT_US
    if all(member.resolved_at is not None for member in group.members.values()):
        wanted = now_us
    elif group.last_sent_at is None:
        wanted = now_us + wait_us
    else:
        wanted = max(now_us, group.last_sent_at + GROUP_INTERVAL_US)
    return wanted if group.due_at is None else min(wanted, group.due_at)


# --- a group is due -------------------------------------------------------------------------------------


def look(group: Group, silenced_until: Mapping[Identity, int], due_at: int) -> Telling | None:
    """What the group has to tell at ``due_at``; silenced members are left out."""
    told = {member.told_as for member in group.sent.values()}
    members = tuple(m for identity, m in group.members.items() if identity not in silenced_until)
    news = tuple(member for member in members if member.told_as not in told)
    firing = [member for member in members if member.resolved_at is None]
    last = group.last_sent_at
    if news:
        return Telling(members, news, _reason(group, firing, news), 0)
    if firing and last is not None and due_at >= last + REPEAT_INTERVAL_US:
        newest = max(member.fired_at for member in members)
        return Telling(members, (), "repeat", max(1, (due_at - newest) // REPEAT_INTERVAL_US))
    return None


def _reason(group: Group, firing: Iterable[Change], news: Iterable[Change]) -> Reason:
    if group.last_sent_at is None:
        return "first"
    if not firing:
        return "all_resolved"
    return "new_alerts" if any(member.resolved_at is None for member in news) else "some_resolved"


def after_look(
    group: Group, telling: Telling | None, silenced_until: Mapping[Identity, int], due_at: int, now_us: int
) -> Group | None:
    """The group once ``telling`` (if any) is in the outbox; None when nothing is left in it."""
    told = {member.identity: member for member in telling.members} if telling else {}
    ended = {identity for identity, member in told.items() if member.resolved_at is not None}
    members = {i: m for i, m in group.members.items() if i not in ended}
    if not members:
        return None
    sent = {i: m for i, m in {**group.sent, **told}.items() if i in members}
    last = on_the_beat(due_at, now_us) if telling else group.last_sent_at
    next_looks = [last + REPEAT_INTERVAL_US] if last is not None else []
    next_looks += [min(end, now_us + SILENCE_LOOK_US) for i, end in silenced_until.items() if i in members]
    return replace(group, members=members, sent=sent, last_sent_at=last, due_at=min(next_looks, default=None))


def on_the_beat(due_at: int, now_us: int) -> int:
    """``due_at``, or the last repeat after it that was missed: lateness does not add up."""
    return due_at + (now_us - due_at) // REPEAT_INTERVAL_US * REPEAT_INTERVAL_US


def key_of(channel: str, group: Group, telling: Telling) -> str:
    """The idempotency key: the same content for the same channel has the same key, also after a crash."""
    content = [
        channel,
        group.key,
        telling.repeat,
        *sorted(member.told_as for member in telling.members),
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def joined_all(
    groups: Mapping[str, Group], changes: Iterable[Change], now_us: int
) -> tuple[dict[str, Group], set[str]]:
    """A channel's groups after several changes, and the keys of those that may differ or are gone."""
    after, touched = dict(groups), set[str]()
    for change in changes:
        group = place(after, change)
        changed = joined(group, change, now_us)
        touched.add(group.key)
        if changed is None:
            after.pop(group.key, None)
        else:
            after[group.key] = changed
    return after, touched
