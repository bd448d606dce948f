"""A school morning as log lines: recorded units at new times, by tenants of different size, as many as the
minute of the lesson makes, and an outage on top.

Pure: the same seed and times give the same lines, and two spans after each other give what one span over
both gives. So the past can be written at once and the future line by line.
"""

from __future__ import annotations

import functools
import heapq
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from tocsin_server.clock import SECOND_US
from tocsin_server.demo.outages import Outage
from tocsin_server.demo.recording import LONGEST_US, Unit, units

MINUTE_US = 60 * SECOND_US
LESSON_MINUTES = 45
#: Share of units that fail on a good day, half of them by a job.
BAD_SHARE = 0.01
#: Tenant -> its share of the traffic: schools differ.
TENANTS = {1: 30, 2: 22, 3: 14, 4: 11, 5: 8, 6: 6, 7: 4, 8: 3, 9: 2}
#: Users per unit of a tenant's share.
_USERS = 25
#: Lines beyond this length were recorded to try out limits.
_LONGEST_LINE = 3000
_TENANT = re.compile(rb'(\\"tenant_id\\":)\d+')
_USER = re.compile(rb'(\\"user_id\\":)\d+')


@dataclass(frozen=True, slots=True)
class Morning:
    """Which morning: with which outage (None: a good one), that begins at ``broken_us``."""

    seed: int
    outage: Outage | None = None
    broken_us: int = 0

    def lines(self, from_us: int, until_us: int) -> Iterator[tuple[int, bytes]]:
        """(time in µs, line without its newline) for ``from_us < time <= until_us``, ascending."""
        waiting: list[tuple[int, int, int, bytes]] = []
        for minute in range((from_us - LONGEST_US) // MINUTE_US, until_us // MINUTE_US + 1):
            for number, (at_us, line) in enumerate(self._of_minute(minute)):
                if from_us < at_us <= until_us:
                    heapq.heappush(waiting, (at_us, minute, number, line))
            while waiting and waiting[0][0] < (minute + 1) * MINUTE_US:
                at_us, _, _, line = heapq.heappop(waiting)
                yield at_us, line
        while waiting:
            at_us, _, _, line = heapq.heappop(waiting)
            yield at_us, line

    def _of_minute(self, minute: int) -> Iterator[tuple[int, bytes]]:
        """Every line of the units that start in this minute."""
        rng = Random(f"{self.seed} {minute}")  # noqa: S311 - the same seed, the same morning
        for _ in range(per_minute(minute)):
            unit = rng.choice(failing() if rng.random() < BAD_SHARE else healthy())
            tenant = rng.choices(list(TENANTS), list(TENANTS.values()))[0]
            yield from replay(unit, minute * MINUTE_US + rng.randrange(MINUTE_US), tenant, rng)
        if self.outage is not None:
            yield from self._broken(self.outage, minute)

    def _broken(self, outage: Outage, minute: int) -> Iterator[tuple[int, bytes]]:
        """What the outage adds in this minute: its first line, and a broken unit every so often."""
        rng = Random(f"{self.seed} {minute} broken")  # noqa: S311
        begin_us, end_us = minute * MINUTE_US, (minute + 1) * MINUTE_US
        if outage.first_line and begin_us <= self.broken_us < end_us:
            yield self.broken_us, outage.first_line(self.broken_us)
        first = max(1, -((self.broken_us - begin_us) // outage.every_us))
        for number in range(first, (end_us - self.broken_us) // outage.every_us + 1):
            at_us = self.broken_us + number * outage.every_us
            if begin_us <= at_us < end_us:
                tenant = outage.tenant or rng.choices(list(TENANTS), list(TENANTS.values()))[0]
                yield from replay(rng.choice(outage.units()), at_us, tenant, rng)


def per_minute(minute: int) -> int:
    """Requests of one minute (counted from the epoch): a lesson's first ten minutes are the busiest."""
    into_lesson = minute % LESSON_MINUTES
    return round(60 + 50 * math.exp(-(((into_lesson - 8) / 9) ** 2)))


def replay(unit: Unit, at_us: int, tenant: int, rng: Random) -> Iterator[tuple[int, bytes]]:
    """The unit at another time, as a user of another tenant."""
    user = 10_000 * tenant + rng.randrange(_USERS * TENANTS[tenant])
    for line_us, line in unit.replayed(at_us, rng):
        of_tenant = _TENANT.sub(rb"\g<1>%d" % tenant, line)
        yield line_us, _USER.sub(rb"\g<1>%d" % user, of_tenant)


@functools.cache
def healthy() -> tuple[Unit, ...]:
    """Units of a good morning: no failed request, job or sync, and nothing recorded to try out limits."""
    return tuple(
        unit
        for unit in units()
        if unit.status in (200, 201, 202, 401, 404, 422)
        and unit.controller
        and not unit.failed("sync.run")
        and not unit.failed("job.completed")
        and max(len(line) for _, line in unit.lines) <= _LONGEST_LINE
    )


@functools.cache
def failing() -> tuple[Unit, ...]:
    """Units that ended in a 5xx, or a job of which failed; not syncs, of which six an hour are too many."""
    return tuple(
        unit
        for unit in units()
        if unit.status >= 500 or (unit.failed("job.completed") and not unit.failed("sync.run"))
    )
