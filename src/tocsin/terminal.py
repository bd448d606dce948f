"""Text mode: a record as one coloured line, for the person who develops the application.

    07:55:12.345 WARNING  roster is empty  course_id=7 reason="no such term"

Whatever a value holds, the line stays one line: control characters are shown as ``\\n`` and ``\\x1b``.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

_RESET, _BOLD, _DIM, _CYAN = "\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[36m"
_LEVEL_COLOURS = {
    "DEBUG": "\x1b[34m",
    "INFO": "\x1b[32m",
    "WARNING": "\x1b[33m",
    "ERROR": "\x1b[31m",
    "CRITICAL": "\x1b[1;31m",
}


def text_line(record: Mapping[str, Any], *, colour: bool | None = None) -> str:
    """``record`` as text without a newline: time (UTC), level, message and then each field as ``key=value``.

    A metric event has its name in the place of the message. ``colour``: None asks :func:`wants_colour`.
    """
    paint = _painted if (wants_colour() if colour is None else colour) else _plain
    metric = record.get("metric")
    level = "METRIC" if metric is not None else str(record.get("level", ""))
    message = str(record.get("message", "") if metric is None else metric)
    parts = [
        paint(_DIM, _shown(str(record.get("timestamp", ""))[11:23])),
        paint(_LEVEL_COLOURS.get(level, _CYAN), f"{_shown(level):8}"),
        paint(_BOLD, _shown(message)),
        *(f"{paint(_CYAN, _word(key))}={_value(value)}" for key, value in record["fields"].items()),
    ]
    return " ".join(parts)


def wants_colour() -> bool:
    """Whether standard output is a terminal that shows colours, and its owner has not set ``NO_COLOR``."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    try:
        return sys.stdout is not None and sys.stdout.isatty()
    except Exception:
        return False  # closed, or replaced by something else


def _painted(colour: str, text: str) -> str:
    return f"{colour}{text}{_RESET}"


def _plain(colour: str, text: str) -> str:
    return text


def _value(value: Any) -> str:
    if isinstance(value, str):
        return _word(value)
    return _shown(json.dumps(value, ensure_ascii=False, default=str))


def _word(text: str) -> str:
    """In quotation marks where it would otherwise run into the next field."""
    bare = text and not any(character in ' "=\\' for character in text) and text.isprintable()
    return text if bare else _shown(json.dumps(text, ensure_ascii=False))


def _shown(text: str) -> str:
    """``text`` in which what moves a cursor, breaks a line or turns its direction is visible instead."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
