"""Durations as people write them (``30s``, ``5m``, ``1h30m``, ``30d``), held as microseconds."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from tocsin_server.clock import SECOND_US

UNITS_US = {
    "w": 604_800 * SECOND_US,
    "d": 86_400 * SECOND_US,
    "h": 3600 * SECOND_US,
    "m": 60 * SECOND_US,
    "s": SECOND_US,
    "ms": 1000,
}
_DURATION = re.compile(r"(?:\d{1,9}(?:ms|[wdhms]))+", re.ASCII)
_PART = re.compile(r"(\d+)(ms|[wdhms])", re.ASCII)

MAX_DURATION_US = 3650 * UNITS_US["d"]


def parse_duration(text: str) -> int:
    """Microseconds of a duration as Prometheus writes it: whole numbers, largest unit first; ``0`` is zero.

    Raises ValueError when ``text`` is something else or longer than ten years.
    """
    if text == "0":
        return 0
    parts = _PART.findall(text) if _DURATION.fullmatch(text) else []
    units = [unit for _, unit in parts]
    if not parts or units != [unit for unit in UNITS_US if unit in units]:
        raise ValueError(f"`{text}` is not a duration")
    total = sum(int(number) * UNITS_US[unit] for number, unit in parts)
    if total > MAX_DURATION_US:
        raise ValueError(f"`{text}` is longer than ten years")
    return total


def format_duration(duration_us: int) -> str:
    """One number with the largest unit that fits exactly: ``90s``, ``5m``, ``36h``, ``1d``."""
    unit, size = next(
        (u, s) for u, s in UNITS_US.items() if duration_us % s == 0 and (duration_us or u == "s")
    )
    return f"{duration_us // size}{unit}"


def _validate(value: object) -> int:
    try:
        return parse_duration(str(value) if value == 0 else value if isinstance(value, str) else repr(value))
    except ValueError as error:
        raise PydanticCustomError(
            "duration", "{reason}", {"reason": str(error), "hint": "write 30s, 5m or 1h30m"}
        ) from None


#: A field of a pydantic model that people write as ``5m`` and code reads as microseconds.
Duration = Annotated[int, BeforeValidator(_validate, json_schema_input_type=str)]
