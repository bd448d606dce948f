"""What the tests of the dialects share: a context with fixed keys, and the books of a file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from tocsin_server.columns import Event
from tocsin_server.dialects import Context, Parsed, Rejected, parse_line
from tocsin_server.privacy import Pseudonyms

DATA = Path(__file__).parents[2] / "data"
RECEIVED_AT = 1_795_420_800_000_000  # 2026-11-23T08:00:00Z

PSEUDONYMS = Pseudonyms(lambda tenant: f"key of {tenant}, sixteen bytes".encode())
CONTEXT = Context(received_at=RECEIVED_AT, pseudonym=PSEUDONYMS, network=PSEUDONYMS.network)
REPLAY = Context(
    received_at=RECEIVED_AT, pseudonym=PSEUDONYMS, network=PSEUDONYMS.network, skew_limit_us=None
)


def lines_of(name: str) -> list[bytes]:
    """The lines of a sample, split on newline bytes only."""
    lines = (DATA / name).read_bytes().split(b"\n")
    return lines[:-1] if lines[-1] == b"" else lines


def understood(line: bytes | str, context: Context = REPLAY) -> Event:
    """The event of a line that must be understood."""
    result = parse_line(line if isinstance(line, bytes) else line.encode(), context)
    assert isinstance(result, Parsed), result
    return result.event


def reason(line: bytes) -> str:
    """The reason of a line that must be a dead letter."""
    result = parse_line(line, REPLAY)
    assert isinstance(result, Rejected), result
    return result.reason


def columns(event: Event) -> dict[str, Any]:
    """The columns that are set, without ``received_at``."""
    values = {name: getattr(event, name) for name in event.__slots__}
    return {name: value for name, value in values.items() if value is not None and name != "received_at"}


def books(lines: list[bytes]) -> Counter[str]:
    """How many lines became an event (by name), a log, a dead letter, or were blank."""
    counts: Counter[str] = Counter()
    for line in lines:
        result = parse_line(line, REPLAY)
        if isinstance(result, Parsed):
            counts[result.event.name or ""] += 1
        else:
            counts["blank" if result is None else "rejected"] += 1
    return counts
