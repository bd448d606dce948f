"""Timestamps as programs print them -> microseconds since the epoch, UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_DAY_US = 86_400_000_000
_YEAR_1 = -719_162 * _DAY_US
_YEAR_10000 = 2_932_897 * _DAY_US

_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,18}))?"
    r" ?(?:(Z|z|UTC|GMT)|([+-])(\d\d):?(\d\d)?)?",
    re.A,
)
_NUMERIC = re.compile(r"-?\d{9,19}(?:\.\d{1,9})?", re.A)
_FAST_CHARS = (24, 29)
#: A text line may begin with a time, in brackets or not.
_LEADING = re.compile(r"\[?" + f"({_ISO.pattern})" + r"(?![\d:])", re.A)


def timestamp_us(value: Any) -> int | None:
    """Microseconds since the epoch, or None if ``value`` is no time between the years 1 and 9999.

    Text is ISO 8601 date and time (``T`` or space, ``.`` or ``,`` before the fraction, ``Z``, ``UTC``,
    ``+1100``, ``+11:00``, ``+11``; no zone means UTC; digits beyond microseconds are cut; second 60 is the
    next second), or 9 to 19 digits, read as a number. A number counts seconds below 1e11, milliseconds
    below 1e14, microseconds below 1e17, else nanoseconds.
    """
    if type(value) is str:
        return _fast(value) if len(value) in _FAST_CHARS else _text(value)
    if type(value) is int or type(value) is float:
        return _number(value)
    return None


def leading_timestamp(text: str) -> str | None:
    """The time with which a text line begins, in brackets or not: ``2026-11-23 07:55:12,345 …``, ``[2026-…]
    …``.
    """
    match = _LEADING.match(text)
    return match[1].rstrip() if match else None


def _fast(text: str) -> int | None:
    """The two most frequent forms, ``2026-11-23T07:55:12.345Z`` and ``…+00:00``; others go to the pattern."""
    zulu = len(text) == 24
    zone = text[23] == "Z" if zulu else text[23] in "+-" and text[26] == ":"
    if not zone or text[10] != "T" or text[19] != ".":
        return _text(text)
    try:
        return _in_range((datetime.fromisoformat(text) - _EPOCH) // _MICROSECOND)
    except ValueError:
        return _text(text)


def _text(text: str) -> int | None:
    match = _ISO.fullmatch(text)
    if match is None:
        return _number(_parsed(text)) if _NUMERIC.fullmatch(text) else None
    year, month, day, hour, minute, second = map(int, match.group(1, 2, 3, 4, 5, 6))
    leap = second == 60
    try:
        at = datetime(year, month, day, hour, minute, 59 if leap else second, tzinfo=UTC)
    except ValueError:
        return None
    micros = int((match[7] or "0").ljust(6, "0")[:6])
    offset = _offset_minutes(match)
    return (
        None
        if offset is None
        else _in_range((at - _EPOCH) // _MICROSECOND + leap * 1_000_000 + micros - offset * 60_000_000)
    )


def _offset_minutes(match: re.Match[str]) -> int | None:
    if match[9] is None:
        return 0
    hours, minutes = int(match[10]), int(match[11] or "0")
    if hours > 23 or minutes > 59:
        return None
    return (hours * 60 + minutes) * (-1 if match[9] == "-" else 1)


def _parsed(text: str) -> int | float:
    return float(text) if "." in text else int(text)


def _number(value: int | float) -> int | None:
    size = abs(value)
    if size < 1e11:
        return _in_range(round(value * 1_000_000))
    if size < 1e14:
        return _in_range(round(value * 1000))
    if size < 1e17:
        return _in_range(round(value))
    return _in_range(int(value) // 1000)


def _in_range(at: int) -> int | None:
    return at if _YEAR_1 <= at < _YEAR_10000 else None
