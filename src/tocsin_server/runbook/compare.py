"""Comparisons of what steps answered, in three values: true, false, or unknown with the reason.

Nothing is false only because it could not be looked at. Unknown follows Kleene's strong logic.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

#: (verdict, reason): None is unknown; the reason is empty otherwise.
Truth = tuple[bool | None, str]

TRUE: Truth = (True, "")
FALSE: Truth = (False, "")

_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,39})(?:\.\d{1,40})?", re.ASCII)
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_MIRRORED = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}

#: Comparison operators, without ``~``.
OPERATORS = tuple(_COMPARE)


@dataclass(frozen=True, slots=True)
class Unknown:
    """A value that is not known. ``absent``: the answer is there, the member is not; it equals null."""

    reason: str
    absent: bool = False


@dataclass(frozen=True, slots=True)
class AtLeast:
    """A number of rows of an answer that was cut: ``least`` or more."""

    least: int
    reason: str


def both(truths: Iterable[Truth]) -> Truth:
    """Kleene's ``and`` over any number of truths: one false is false, else one unknown is unknown."""
    unknown = None
    for truth in truths:
        if truth[0] is False:
            return FALSE
        if truth[0] is None:
            unknown = unknown or truth
    return unknown or TRUE


def negated(truth: Truth) -> Truth:
    """Kleene's ``not``: unknown stays unknown."""
    return truth if truth[0] is None else (not truth[0], "")


def either(truths: Iterable[Truth]) -> Truth:
    """Kleene's ``or``: one true is true, else one unknown is unknown."""
    return negated(both(negated(truth) for truth in truths))


def truth_of(value: object) -> Truth:
    """A value that stands alone: only true and false are a verdict."""
    if isinstance(value, bool):
        return value, ""
    if isinstance(value, Unknown):
        return None, value.reason
    return None, f"{_kind(value)} is neither true nor false"


def compare(sign: str, left: object, right: object) -> Truth:
    """``left sign right``. Two numbers, also written as text, compare by value; other texts by character.

    Null and what is absent equal only each other and have no order. Unlike kinds are unknown.
    """
    if left is None or right is None:
        left, right = (None if isinstance(v, Unknown) and v.absent else v for v in (left, right))
    for value in (left, right):
        if isinstance(value, Unknown):
            return None, value.reason
    if isinstance(left, AtLeast):
        return _bounded(sign, left, right)
    if isinstance(right, AtLeast):
        return _bounded(_MIRRORED[sign], right, left)
    return _known(sign, left, right)


def _known(sign: str, left: object, right: object) -> Truth:
    numbers = number(left), number(right)
    if None not in numbers:
        return _COMPARE[sign](*numbers), ""
    equality = sign in ("=", "!=")
    if isinstance(left, str) and isinstance(right, str):
        return _COMPARE[sign](left, right), ""
    if equality and (left is None or right is None or (isinstance(left, bool) and isinstance(right, bool))):
        return _COMPARE[sign](left, right), ""
    return None, f"{_kind(left)} and {_kind(right)} cannot be compared with {sign}"


def _bounded(sign: str, left: AtLeast, right: object) -> Truth:
    """A comparison is certain when every number from ``least`` on gives the same verdict."""
    bound = number(right)
    if bound is None:
        return None, f"a number of rows and {_kind(right)} cannot be compared"
    certain = bound < left.least if sign in ("=", "!=", "<=", ">") else bound <= left.least
    return (sign in (">", ">=", "!="), "") if certain else (None, left.reason)


def number(value: object) -> int | Decimal | None:
    """The value as an exact number, also when it is written as text (``429``, ``-0.5``); None if it is none.

    A float is the number that it prints as, so that ``0.1`` equals ``0.1`` wherever it comes from.
    """
    if isinstance(value, str):
        return Decimal(value) if _NUMBER.fullmatch(value) else None
    if isinstance(value, float):
        value = Decimal(repr(value))
    if isinstance(value, Decimal):
        return value if value.is_finite() else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, AtLeast):
        return "a number of rows"
    names = {bool: "true or false", str: "a text", dict: "a JSON object", list: "a list"}
    return names.get(type(value), "a number" if number(value) is not None else f"a {type(value).__name__}")
