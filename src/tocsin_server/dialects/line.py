"""What goes into the parse of a line and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tocsin_server.columns import Event

MAX_LINE_BYTES = 1_048_576  # reliability table 3.2
MAX_STRING_BYTES = 65_536
MAX_DEPTH = 32
MAX_NUMBER_CHARS = 1000

#: Reason of a dead letter -> what it says to the person who reads it.
REASONS: dict[str, str] = {
    "malformed": "starts as JSON but is not JSON",
    "not_object": "is JSON, but not an object",
    "non_finite": "holds NaN, Infinity or a number beyond a double",
    "number_too_long": f"holds an integer of more than {MAX_NUMBER_CHARS} digits",
    "control_character": "holds a raw control character inside a JSON string",
    "too_deep": f"is nested deeper than {MAX_DEPTH} levels",
    "too_long": f"is JSON longer than {MAX_LINE_BYTES} bytes",
    "nul_bytes": "holds NUL bytes: a hole left by a crash of the writer, or UTF-16",
    "byte_order_mark": "begins with a byte order mark in the middle of the stream, or is UTF-16",
}

#: The fields of a line by their canonical names, before they are typed and cleaned.
Fields = dict[str, Any]


class LineError(Exception):
    """The line cannot be an event; ``reason`` is a key of ``REASONS``."""

    def __init__(self, reason: str) -> None:
        """``reason`` is a key of ``REASONS``."""
        super().__init__(reason)
        self.reason = reason


def _hidden(_day: int, _address: str) -> str:
    return "<ip>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a line cannot know about itself. ``service`` and ``environment`` are used where the line names
    none.

    ``received_at`` is in microseconds since the epoch, UTC. ``skew_limit_us`` is how far ahead of it a line
    may be (None: history is replayed, no correction). ``pseudonym(tenant_id, raw id)`` and ``network(UTC
    day, address)`` are the keyed hashes of :class:`tocsin_server.privacy.Pseudonyms`.
    """

    received_at: int
    pseudonym: Callable[[str | None, str], str]
    service: str | None = None
    environment: str | None = None
    skew_limit_us: int | None = 60_000_000
    network: Callable[[int, str], str] = _hidden


@dataclass(frozen=True, slots=True)
class Parsed:
    """An understood line. ``event.source`` is empty, ``event.event_id`` too unless the line brings one,
    ``event.ts`` is None if the line has no time: ``finish`` sets it."""

    event: Event
    dialect: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """A dead letter; ``reason`` is a key of ``REASONS``."""

    reason: str
