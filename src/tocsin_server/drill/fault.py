"""What a fault is: how it changes the ordinary morning, and the marked lines that come of it."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from random import Random
from typing import Any

from tocsin.line import encode
from tocsin_server.clock import SECOND_US
from tocsin_server.drill.traffic import Emission, Fields, Stream, healthy, repeatable, stream

#: How long the morning is ordinary before a fault breaks out: what evidence compares with.
LEAD_US = 40 * 60 * SECOND_US

#: What an ordinary event becomes (None: it is never printed), given the seconds since the outbreak.
Change = Callable[[Emission, float, Random], Emission | None]
#: Events that a fault adds, sorted by time, given the time (µs) of the outbreak and of the repair.
Adds = Callable[[int, int, Random], Iterator[Emission]]
When = Callable[[Fields], bool]


def anything(_fields: Fields) -> bool:
    """Every event."""
    return True


def unchanged(event: Emission, _elapsed_s: float, _rng: Random) -> Emission:
    """The event as it is."""
    return event


def nothing(_outbreak_us: int, _repair_us: int, _rng: Random) -> Iterator[Emission]:
    """No further events."""
    return iter(())


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that breaks for ``lasts_s`` seconds, and what must come of it.

    ``alert`` must fire; ``others`` fire with it because it implies them. ``runbook`` must rank ``cause`` (an
    anchor under its Diagnosis) first, or nothing (None); ``also``: causes that other runbooks of the alert
    may name. ``tail_s``: time after the repair until the alert is resolved. ``thinned``: see
    :func:`~tocsin_server.drill.traffic.healthy`. ``whole``: ``change`` also sees the time before the outbreak
    (negative seconds) and after the repair.
    """

    name: str
    alert: str
    runbook: str
    cause: str | None
    change: Change = unchanged
    adds: Adds = nothing
    lasts_s: int = 720
    tail_s: int = 1260
    thinned: float = 1.0
    whole: bool = False
    others: frozenset[str] = frozenset()
    also: frozenset[str] = frozenset()

    @property
    def span_us(self) -> int:
        """From the start of the ordinary morning until the alert is resolved; microseconds."""
        return LEAD_US + (self.lasts_s + self.tail_s) * SECOND_US

    def emissions(self, from_us: int, until_us: int, seed: int) -> Iterator[Emission]:
        """The events, sorted by time; the fault breaks out at ``from_us + LEAD_US``."""
        outbreak_us = from_us + LEAD_US
        repair_us = outbreak_us + self.lasts_s * SECOND_US
        rng = repeatable(seed, self.name)
        added = (e for e in self.adds(outbreak_us, repair_us, repeatable(seed)) if e.at_us <= until_us)
        changed = self._changed(healthy(from_us, until_us, seed, self.thinned), outbreak_us, rng)
        return heapq.merge(changed, added, key=lambda event: event.at_us)

    def lines(
        self, from_us: int, until_us: int, seed: int, environment: str = "drill", drill: str = "drill"
    ) -> Iterator[bytes]:
        """The same as lines of the canonical wire format, each marked with the field ``drill``."""
        return (wire(event, environment, drill) for event in self.emissions(from_us, until_us, seed))

    def _changed(self, events: Iterator[Emission], outbreak_us: int, rng: Random) -> Iterator[Emission]:
        for event in events:
            elapsed_s = (event.at_us - outbreak_us) / SECOND_US
            touched = self.whole or 0 <= elapsed_s < self.lasts_s
            changed = self.change(event, elapsed_s, rng) if touched else event
            if changed is not None:
                yield changed


def wire(event: Emission, environment: str, drill: str) -> bytes:
    """One line; its time is exact to the millisecond."""
    moment = datetime.fromtimestamp(event.at_us / SECOND_US, UTC)
    return encode(
        {
            "metric": event.name,
            "fields": {**event.fields, "drill": drill},
            "timestamp": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "service": event.service,
            "environment": environment,
        }
    )


# --- ways to change the morning -------------------------------------------------------------------------


def becomes(name: str, share: float = 1.0, when: When = anything, **fields: Any) -> Change:
    """A share of the events of this name gets other fields (None: the field is gone)."""

    def change(event: Emission, _elapsed_s: float, rng: Random) -> Emission | None:
        if event.name != name or not when(event.fields) or rng.random() >= share:
            return event
        merged = {k: v for k, v in {**event.fields, **fields}.items() if v is not None}
        return replace(event, fields=merged)

    return change


def vanishes(name: str, share: float = 1.0, when: When = anything, service: str = "") -> Change:
    """A share of the events of this name is never printed."""

    def change(event: Emission, _elapsed_s: float, rng: Random) -> Emission | None:
        hit = event.name == name and service in ("", event.service) and when(event.fields)
        return None if hit and rng.random() < share else event

    return change


def grows(queue: str, per_minute: float, ages: bool = True) -> Change:
    """Jobs pile up in one queue (empty: in all); the oldest waits since the outbreak when it ``ages``."""

    def change(event: Emission, elapsed_s: float, _rng: Random) -> Emission | None:
        if event.name != "job.queue" or queue not in ("", event.fields["queue"]):
            return event
        depth = event.fields["depth"] + round(per_minute * elapsed_s / 60)
        age = round(elapsed_s if ages else elapsed_s / 20, 1)
        return replace(event, fields={**event.fields, "depth": depth, "oldest_age_s": age})

    return change


def fills(percent_at: Callable[[float], float]) -> Change:
    """The database's disk is used to this percentage, by seconds since the outbreak."""

    def change(event: Emission, elapsed_s: float, _rng: Random) -> Emission | None:
        if event.name != "db.disk":
            return event
        used = round(event.fields["capacity_bytes"] * percent_at(elapsed_s) / 100)
        return replace(event, fields={**event.fields, "used_bytes": used})

    return change


def all_of(*changes: Change) -> Change:
    """One change after the other."""

    def change(event: Emission, elapsed_s: float, rng: Random) -> Emission | None:
        changed: Emission | None = event
        for one in changes:
            changed = one(changed, elapsed_s, rng) if changed is not None else None
        return changed

    return change


def more(*streams: Stream) -> Adds:
    """Further events from the outbreak to the repair."""

    def adds(outbreak_us: int, repair_us: int, rng: Random) -> Iterator[Emission]:
        found = [stream(one, outbreak_us, repair_us, repeatable(rng.random())) for one in streams]
        return heapq.merge(*found, key=lambda event: event.at_us)

    return adds


def once(name: str, service: str, fields: Fields) -> Adds:
    """One event at the outbreak."""
    return lambda outbreak_us, _repair_us, _rng: iter([Emission(outbreak_us, name, service, fields)])
