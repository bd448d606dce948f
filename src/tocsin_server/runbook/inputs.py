"""The inputs of a runbook: from labels, from the incident, from a person or by default, each of its type.

A label's value came from telemetry, so it is untrusted: here it only becomes a value of its type. How it gets
into a statement or a path is decided where it is used, always bound or percent-encoded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tocsin_server.clock import SECOND_US, iso
from tocsin_server.durations import format_duration, parse_duration
from tocsin_server.errors import TocsinError
from tocsin_server.runbook.model import Input

#: What a parameter may be; a duration is a ``timedelta``.
Value = int | str | timedelta | datetime

MAX_TEXT_CHARS = 200
_INTEGER = re.compile(r"-?[0-9]{1,18}")
_SLUG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True, slots=True)
class Values:
    """The value of every input that has one, and for the others why they have none."""

    known: Mapping[str, Value]
    missing: Mapping[str, str]

    def why_missing(self, names: Iterable[str]) -> str:
        """Why a step that needs ``names`` cannot run; empty when every one has a value."""
        return "; ".join(self.missing[name] for name in names if name in self.missing)


def resolve(
    inputs: Iterable[Input],
    given: Mapping[str, str | int],
    labels: Mapping[str, str],
    started_at_us: int,
) -> Values:
    """What a person gave (``given``) before the source before the default.

    A value that is not of its input's type counts as missing: its steps wait for a person.
    """
    known: dict[str, Value] = {}
    missing: dict[str, str] = {}
    for one in inputs:
        raw = given.get(one.name, _sourced(one, labels, started_at_us))
        raw = one.default if raw is None else raw
        try:
            if raw is None:
                missing[one.name] = f"waits for a person: input {one.name}"
            else:
                known[one.name] = typed(one, raw)
        except ValueError as error:
            missing[one.name] = f"waits for a person: input {one.name} {error}"
    return Values(known, missing)


def check_given(inputs: Iterable[Input], given: Mapping[str, str | int]) -> None:
    """Raises TocsinError with everything that is wrong with what a person gave."""
    by_name = {one.name: one for one in inputs}
    faults = [f"there is no input {name}" for name in sorted(given.keys() - by_name.keys())]
    for name in sorted(given.keys() & by_name.keys()):
        try:
            typed(by_name[name], given[name])
        except ValueError as error:
            faults.append(f"input {name} {error}")
    if faults:
        names = ", ".join(by_name) or "none"
        raise TocsinError(f"{'; '.join(faults)}; the runbook's inputs are: {names}")


def typed(one: Input, raw: str | int) -> Value:
    """``raw`` as a value of the input's type. Raises ValueError, saying what it is not."""
    text = str(raw)
    if one.type == "int":
        return int(_matching(_INTEGER, text, "is not a whole number"))
    if one.type == "duration":
        try:
            return timedelta(microseconds=parse_duration(text))
        except ValueError:
            raise ValueError("is not a duration such as 1h") from None
    if one.type == "enum":
        if text not in one.values:
            raise ValueError(f"is not one of {', '.join(one.values)}")
        return text
    if one.type == "slug":
        return _matching(_SLUG, text, "is not a word of letters, digits, `_`, `.` and `-`")
    return _text(text)


def shown(value: Value) -> str | int:
    """A value as people write it, and as JSON holds it: ``1h``, ``7``, ``2026-11-23T07:55:12Z``."""
    if isinstance(value, timedelta):
        return format_duration(value // timedelta(microseconds=1))
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return value


def instant(at_us: int) -> datetime:
    """``at_us`` as the aware time that DuckDB binds to a timestamptz."""
    return datetime.fromtimestamp(at_us // SECOND_US, UTC) + timedelta(microseconds=at_us % SECOND_US)


def _sourced(one: Input, labels: Mapping[str, str], started_at_us: int) -> str | None:
    if one.source == "incident.started_at":
        return iso(started_at_us)
    name = (one.source or "").removeprefix("labels.")
    return labels.get(name) or None  # an empty label is one that the event did not have


def _matching(pattern: re.Pattern[str], text: str, what: str) -> str:
    if not pattern.fullmatch(text):
        raise ValueError(what)
    return text


def _text(text: str) -> str:
    if len(text) > MAX_TEXT_CHARS:
        raise ValueError(f"is longer than {MAX_TEXT_CHARS} characters")
    if not text.isprintable():
        raise ValueError("holds control characters")
    return text
