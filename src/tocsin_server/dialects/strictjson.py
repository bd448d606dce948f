"""JSON as reliability table 3.1 wants it: orjson first; what it refuses goes through one well-defined
second step.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any, NoReturn

import orjson

from tocsin_server.dialects.line import MAX_DEPTH, MAX_NUMBER_CHARS, LineError

_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_NINETEEN_DIGITS = b"0" * 19
_SURROGATE = re.compile("[\ud800-\udfff]")


def parse_json(raw: bytes) -> tuple[Any, bool]:
    """The JSON value in ``raw``, and whether bytes or escapes had to be replaced by U+FFFD.

    Duplicate keys: the last one wins. Integers beyond 64 bits stay exact. Invalid UTF-8 and lone
    surrogates become U+FFFD. Raises :class:`LineError` with ``non_finite``, ``number_too_long``,
    ``control_character``, ``too_deep`` (more than 32 levels) or ``malformed``.
    """
    replaced = False
    if _NINETEEN_DIGITS in raw.translate(_ZEROS):  # orjson makes floats of integers beyond 64 bits
        value, replaced = _second_step(raw)
    else:
        try:
            value = orjson.loads(raw)
        except orjson.JSONDecodeError:
            value, replaced = _second_step(raw)
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and not _fits(value, MAX_DEPTH):
        raise LineError("too_deep")
    return value, replaced


def map_strings(value: Any, change: Callable[[str], str]) -> Any:
    """``value`` with every string in it, keys too, passed through ``change``."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(key): map_strings(item, change) for key, item in value.items()}
    if isinstance(value, list):
        return [map_strings(item, change) for item in value]
    return value


def _second_step(raw: bytes) -> tuple[Any, bool]:
    text = raw.decode("utf-8", "replace")
    replaced = text.encode() != raw
    try:
        value = json.loads(text, parse_constant=_constant, parse_float=_number, parse_int=_integer)
    except RecursionError:
        raise LineError("too_deep") from None
    except ValueError as error:
        control = "control character" in str(error)
        raise LineError("control_character" if control else "malformed") from None
    if not _fits(value, MAX_DEPTH):
        raise LineError("too_deep")
    if "\\ud" not in text.lower():
        return value, replaced
    fixed = map_strings(value, _without_surrogates)
    return fixed, replaced or fixed != value


def _without_surrogates(text: str) -> str:
    return _SURROGATE.sub("\ufffd", text)


def _constant(_name: str) -> NoReturn:
    raise LineError("non_finite")


def _number(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise LineError("non_finite")
    return value


def _integer(text: str) -> int:
    if len(text) > MAX_NUMBER_CHARS:
        raise LineError("number_too_long")
    return int(text)


def _fits(value: Any, levels: int) -> bool:
    """Whether ``value`` is nested at most ``levels`` deep; goes level by level, so it cannot exhaust the
    stack.
    """
    containers = [value] if isinstance(value, (dict, list)) else []
    for _ in range(levels):
        inner = (c for outer in containers for c in (outer.values() if type(outer) is dict else outer))
        containers = [c for c in inner if type(c) is dict or type(c) is list]
    return not containers
