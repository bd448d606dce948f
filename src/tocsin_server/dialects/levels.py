"""Levels as programs print them -> debug, info, warn, error, fatal."""

from __future__ import annotations

import re
from typing import Any

#: Name of a level, lower case -> the level as it is stored.
LEVELS: dict[str, str] = {
    **dict.fromkeys(["debug", "trace", "verbose", "fine", "finer", "finest"], "debug"),
    **dict.fromkeys(["info", "information", "informational", "notice", "success"], "info"),
    **dict.fromkeys(["warn", "warning"], "warn"),
    **dict.fromkeys(["error", "err", "severe"], "error"),
    **dict.fromkeys(["fatal", "critical", "crit", "alert", "emerg", "emergency", "panic", "dpanic"], "fatal"),
}
_NUMBERED_DEBUG = re.compile(r"(?:debug|trace)\d{1,2}", re.IGNORECASE | re.ASCII)
_SYSLOG = ("fatal", "fatal", "fatal", "error", "warn", "info", "info", "debug")
_TENS = ("debug", "debug", "debug", "info", "warn", "error", "fatal")
_OTLP = ("debug", "debug", "info", "warn", "error", "fatal")


def level_name(value: Any) -> str | None:
    """The stored level of a name (``WARNING``, ``DEBUG5``) or of a bunyan or pino number (10 to 60), else
    None.
    """
    if type(value) is str:
        known = LEVELS.get(value) or LEVELS.get(value.strip().lower())
        return known or ("debug" if _NUMBERED_DEBUG.fullmatch(value) else None)
    if type(value) is int and 10 <= value < 70:
        return _TENS[value // 10]
    return None


def syslog_level(value: Any) -> str | None:
    """The stored level of a syslog priority, 0 (emergency) to 7 (debug), RFC 5424; as text or number."""
    text = str(value)
    return _SYSLOG[int(text)] if len(text) == 1 and text in "01234567" else None


def otlp_level(value: Any) -> str | None:
    """The stored level of an OpenTelemetry severity number, 1 (trace) to 24 (fatal)."""
    return _OTLP[(value - 1) // 4] if type(value) is int and 1 <= value <= 24 else None
