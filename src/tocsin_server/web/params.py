"""The parameters of a page: its URL is its whole state.

Time ranges are ``from < ts <= to``, as the windows of the alert rules are, so that a link behind a number
leads to exactly the events that the number counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from tocsin_server.clock import SECOND_US, iso
from tocsin_server.durations import parse_duration
from tocsin_server.errors import TocsinError
from tocsin_server.export.rows import iso_time

HOUR_US = 3600 * SECOND_US
#: No page looks at more than this at once.
MAX_RANGE_US = 400 * 24 * HOUR_US

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RELATIVE = re.compile(r"now(?:([+-])(\w+))?", re.ASCII)


class BadRequest(TocsinError):  # noqa: N818  # as HTTP calls it
    """The URL or the form asks for something that cannot be; the page says so, with status 400."""


class NotFound(TocsinError):  # noqa: N818  # as HTTP calls it
    """There is no such thing; the page says so, with status 404."""


@dataclass(frozen=True, slots=True)
class Params:
    """What a request asks for: the query of its URL in order, and the names in its path."""

    query: tuple[tuple[str, str], ...] = ()
    path: Mapping[str, str] = field(default_factory=dict)

    def one(self, name: str, default: str = "") -> str:
        """The last value of a name; empty values count as none."""
        return next((value for key, value in reversed(self.query) if key == name and value), default)

    def all(self, name: str) -> list[str]:
        """Every value of a name, each once."""
        return list(dict.fromkeys(value for key, value in self.query if key == name and value))


@dataclass(frozen=True, slots=True)
class TimeRange:
    """``from_us < ts <= to_us``, microseconds since the epoch, UTC."""

    from_us: int
    to_us: int

    def as_json(self) -> dict[str, str]:
        """Both ends as text."""
        return {"from": moment(self.from_us), "to": moment(self.to_us)}


def moment(at_us: int) -> str:
    """ISO 8601 UTC: to the second, and finer only when the time is."""
    return iso(at_us) if at_us % SECOND_US == 0 else iso_time(_EPOCH + timedelta(microseconds=at_us))


def parse_moment(text: str, now_us: int) -> int:
    """A time as people write it: ISO 8601 (no zone means UTC), ``now``, ``now-6h``, ``now+2h``; microseconds.

    Raises BadRequest.
    """
    try:
        if relative := _RELATIVE.fullmatch(text):
            distance = parse_duration(relative[2]) if relative[2] else 0
            return now_us // SECOND_US * SECOND_US + (-distance if relative[1] == "-" else distance)
        parsed = datetime.fromisoformat(text.strip().replace(" ", "T", 1))
        zoned = parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
        return (zoned.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        shown = text[:40]
        raise BadRequest(f"`{shown}` is no time: write 2026-11-23T07:55:00Z, now-6h or now+2h") from None


def time_range(params: Params, now_us: int, default_us: int = HOUR_US) -> TimeRange:
    """The range of ``from`` and ``to``; without them the last ``default_us`` up to now. Raises BadRequest."""
    to_us = parse_moment(params.one("to", "now"), now_us)
    asked = params.one("from")
    from_us = parse_moment(asked, now_us) if asked else to_us - default_us
    if not from_us < to_us:
        raise BadRequest("the range ends before it begins: choose a `from` before `to`")
    if to_us - from_us > MAX_RANGE_US:
        raise BadRequest("the range is longer than 400 days: choose a shorter one")
    return TimeRange(from_us, to_us)
