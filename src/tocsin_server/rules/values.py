"""Values in rule files: percentages, windows, names, label lists."""

from __future__ import annotations

from collections.abc import Sized
from fractions import Fraction
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, InstanceOf, Strict, WithJsonSchema
from pydantic_core import PydanticCustomError

from tocsin_server.durations import Duration, format_duration
from tocsin_server.query import STEP_US, FieldName


def parse_threshold(value: object) -> Fraction:
    """``5%`` or a plain number as an exact fraction, so that comparisons can be made in integers.

    Raises ValueError for anything else, and for more than six decimals.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"`{value}` is neither a number nor a percentage")
    text = str(value).strip()
    number, percent = (text[:-1], 100) if text.endswith("%") else (text, 1)
    try:
        fraction = Fraction(number.strip()) / percent
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"`{value}` is neither a number nor a percentage") from None
    if "/" in text or fraction.denominator > 1_000_000:
        raise ValueError(f"`{value}` has too many decimals")
    return fraction


def _threshold(value: object) -> Fraction:
    try:
        return parse_threshold(value)
    except ValueError as error:
        hint = "write 5% or a number"
        raise PydanticCustomError("threshold", "{reason}", {"reason": str(error), "hint": hint}) from None


def _share(value: Fraction) -> Fraction:
    if not 0 <= value < 1:
        reason = {"value": str(float(value)), "hint": "write 5% for one in twenty"}
        raise PydanticCustomError("share", "must be at least 0% and below 100%, not {value}", reason)
    return value


def _positive(value: Fraction) -> Fraction:
    if value < 0:
        raise PydanticCustomError("threshold", "must not be negative", {"hint": "write 0 or more"})
    return value


def _whole_steps(value: int) -> int:
    if value % STEP_US:
        reason = {"value": format_duration(value), "hint": "rules are evaluated every 30s"}
        raise PydanticCustomError("steps", "{value} is not a multiple of 30s", reason)
    return value


def _two_steps(value: int) -> int:
    if value < 2 * STEP_US:
        reason = {"value": format_duration(value), "hint": "a window is at least two evaluations, 1m"}
        raise PydanticCustomError("window", "{value} is too short", reason)
    return value


def _not_empty(value: Sized) -> Sized:
    if not value:
        raise PydanticCustomError("empty", "is empty", {"hint": "write at least one entry"})
    return value


def _by(value: object) -> object:
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        if len(set(value)) < len(value):
            raise PydanticCustomError("labels", "names a label twice", {"hint": "keep one"})
        return {name: name for name in value}
    return value


_TEXT_OR_NUMBER = WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "number"}]})

#: A share of events: ``5%`` or 0.05.
Share = Annotated[InstanceOf[Fraction], BeforeValidator(_threshold), AfterValidator(_share), _TEXT_OR_NUMBER]
#: Any threshold that is not negative.
Threshold = Annotated[
    InstanceOf[Fraction], BeforeValidator(_threshold), AfterValidator(_positive), _TEXT_OR_NUMBER
]
#: A duration in whole evaluation steps of 30 s; microseconds.
Steps = Annotated[Duration, AfterValidator(_whole_steps)]
#: A look-back window of at least two steps; microseconds.
Window = Annotated[Duration, AfterValidator(_whole_steps), AfterValidator(_two_steps)]
#: A number of events.
Count = Annotated[int, Strict(), Field(ge=0)]
#: At least one entry.
NotEmpty = AfterValidator(_not_empty)
#: Label name -> field; people may write a list when both are the same.
LabelFields = Annotated[
    dict[FieldName, FieldName],
    BeforeValidator(_by),
    WithJsonSchema({"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "object"}]}),
]


def format_share(share: Fraction) -> str:
    """``5%``."""
    return f"{float(share * 100):g}%"


def format_number(number: Fraction) -> str:
    """``100`` or ``2.5``."""
    return str(number.numerator) if number.denominator == 1 else f"{float(number):g}"


def in_words(duration_us: int) -> str:
    """``5 min``, ``1 hour``, ``30 s``: durations as the order writes them."""
    seconds = duration_us // 1_000_000
    if seconds % 3600 == 0 and seconds:
        return f"{seconds // 3600} hour" + ("s" if seconds > 3600 else "")
    return f"{seconds // 60} min" if seconds % 60 == 0 and seconds else f"{seconds} s"
