"""Any Python value -> plain JSON values within limits (reliability rule 5 of the emitter).

Code of the host is not run to print a value: an object whose type is not known here becomes ``<unrepr:
Type>``. Its ``__repr__`` or ``__str__`` could raise, sleep, query a database or print a student.
"""

from __future__ import annotations

import math
import os
import re
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, time, timedelta
from enum import Enum
from itertools import islice
from numbers import Integral, Number
from types import MappingProxyType, MemberDescriptorType
from typing import Any
from uuid import UUID

DEPTH = 8
BREADTH = 64
STRING_BYTES = 8 * 1024
KEY_CHARACTERS = 128
#: Values that one event may hold in all its containers together, and bytes of text; the rest is cut.
VALUES = 2048
TEXT_BYTES = 64 * 1024
#: Text up to this length is not counted towards ``TEXT_BYTES``: ``VALUES`` bounds it.
SHORT_CHARACTERS = 64

_INT64 = range(-(2**63), 2**63)
_SURROGATES = re.compile("[\ud800-\udfff]")


def plain_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """``fields`` with values that JSON can hold, cut to the limits, whatever a value is or does."""
    return _Walk().mapping(fields, 1)


def plain(value: object) -> Any:
    """``value`` as JSON can hold it, cut to the limits."""
    return _Walk().value(value, 1)


def text(value: str) -> str:
    """``value`` as valid Unicode of at most 8 KiB of UTF-8; it is cut at a space, so no word is halved."""
    if len(value) <= STRING_BYTES // 4 and value.isascii():
        return str.__str__(value)
    whole = len(value) <= STRING_BYTES
    encoded = _SURROGATES.sub("\ufffd", value[:STRING_BYTES]).encode()
    if whole and len(encoded) <= STRING_BYTES:
        return encoded.decode()
    cut = encoded[: STRING_BYTES - 3].decode(errors="ignore")
    head, space, tail = cut.rpartition(" ")
    return (head if space and len(tail) < 256 else cut) + "…"


def _is_short(value: object) -> bool:
    """Ordinary text, as nearly every key and value is: nothing needs to be done to it."""
    return type(value) is str and len(value) <= SHORT_CHARACTERS and value.isascii()


def _integer(value: int) -> int | str:
    """Integers beyond 64 bits become text, as the server stores them (reliability table 3.1)."""
    number = int(value)
    if number in _INT64:
        return number
    return str(number) if number.bit_length() <= 1024 else f"<int of {number.bit_length()} bits>"


def _number(value: float) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None


def _datetime(value: datetime) -> str:
    """No zone means UTC."""
    utc = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return utc.strftime("%Y-%m-%dT%H:%M:%S.") + f"{utc.microsecond // 1000:03d}Z"


def _unrepr(value: object) -> str:
    return f"<unrepr: {text(type(value).__name__)[:KEY_CHARACTERS]}>"


def _held(value: Any) -> dict[str, Any]:
    """What a dataclass instance holds; what its class would compute (an ORM's relation) is not asked."""
    kind = type(value)
    held = object.__getattribute__(value, "__dict__") if kind.__dictoffset__ else {}
    names = kind.__dataclass_fields__
    slots = {n: getattr(value, n) for n in names if type(getattr(kind, n, None)) is MemberDescriptorType}
    return {name: item for name, item in {**held, **slots}.items() if name in names}


#: What is printed as one value, tried in this order.
_SCALARS: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    (str, text),
    (Integral, _integer),
    (Number, _number),  # also Decimal and Fraction
    ((bytes, bytearray), lambda value: text(bytes(value[:STRING_BYTES]).decode(errors="replace"))),
    (UUID, str),
    (datetime, _datetime),
    ((date, time), lambda value: value.isoformat()),
    (timedelta, lambda value: value.total_seconds()),
    (BaseException, lambda value: type(value).__name__),
    (type, lambda value: value.__name__),
    (os.PathLike, lambda value: text(os.fsdecode(value))),
)

#: The same for the types that nearly every value has, found without a search.
_EXACT: dict[type, Callable[[Any], Any]] = {str: text, int: _integer, float: _number}


class _Walk:
    """One pass over one event's values; remembers where it is and how much may still be taken."""

    __slots__ = ("_above", "_text_left", "_values_left")

    def __init__(self) -> None:
        self._above: set[int] = set()
        self._values_left = VALUES
        self._text_left = TEXT_BYTES

    def value(self, value: object, depth: int) -> Any:
        """``value`` at ``depth`` (1: a field's own value), whatever it is."""
        kind = type(value)
        if value is None or kind is bool:
            return value
        try:
            convert = _EXACT.get(kind)
            if convert is None:
                return self._known(value, depth)
            printed = convert(value)
            return self._text(printed) if isinstance(printed, str) else printed
        except Exception:
            return _unrepr(value)

    def mapping(self, value: dict[Any, Any], depth: int) -> dict[str, Any]:
        """The first 64 items; what is left out is said under the key ``<more>``."""
        result: dict[str, Any] = {}
        for key, item in islice(value.items(), BREADTH - (len(value) > BREADTH)):
            name = key if _is_short(key) else self._key(key)
            result[name] = item if _is_short(item) else self._item(item, depth)
        self._values_left -= len(result)
        if len(value) > BREADTH:
            result["<more>"] = len(value) - BREADTH + 1
        return result

    def _known(self, value: Any, depth: int) -> Any:
        # By type, never isinstance: that asks for __class__, which a lazy object answers by loading.
        kind = type(value)
        if issubclass(kind, Enum):
            return self.value(value.value, depth)
        for known, convert in _SCALARS:
            if issubclass(kind, known):
                printed = convert(value)
                return self._text(printed) if isinstance(printed, str) else printed
        return self._container(value, depth + 1)

    def _container(self, value: Any, depth: int) -> Any:
        if id(value) in self._above:
            return "<cycle>"
        if depth > DEPTH:
            return "<too deep>"
        self._above.add(id(value))
        try:
            return self._items(value, depth)
        finally:
            self._above.discard(id(value))

    def _items(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if issubclass(kind, (dict, MappingProxyType)):
            return self.mapping(value, depth)
        if issubclass(kind, (list, tuple, set, frozenset, deque)):
            return self._sequence(value, len(value), depth)
        if hasattr(kind, "__dataclass_fields__"):
            return self.mapping(_held(value), depth)
        return _unrepr(value)

    def _sequence(self, value: Iterable[Any], length: int, depth: int) -> list[Any]:
        result = [self._item(item, depth) for item in islice(value, BREADTH - (length > BREADTH))]
        self._values_left -= len(result)
        if length > BREADTH:
            result.append(f"<{length - BREADTH + 1} more>")
        return result

    def _item(self, value: object, depth: int) -> Any:
        return self.value(value, depth) if self._values_left > 0 else "<cut>"

    def _key(self, key: object) -> str:
        printed = self.value(key, DEPTH)
        return printed[:KEY_CHARACTERS] if isinstance(printed, str) else str(printed)

    def _text(self, value: str) -> str:
        self._text_left -= len(value)
        return value if self._text_left >= 0 else "<cut>"
