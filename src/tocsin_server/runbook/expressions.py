"""The parts of a condition, and their evaluation over answers.

Everything is evaluated by columns: a predicate over a table of n rows gives n truths at once, and a condition
as a whole is evaluated over one "row", the answers of all steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tocsin_server.runbook import regex
from tocsin_server.runbook.compare import (
    FALSE,
    AtLeast,
    Truth,
    Unknown,
    both,
    compare,
    either,
    negated,
    number,
    truth_of,
)
from tocsin_server.runbook.model import Answer


@dataclass(frozen=True, slots=True)
class Literal:
    """A number, text, true, false or null."""

    value: object


@dataclass(frozen=True, slots=True)
class Column:
    """A column, within ``any``, ``all`` and ``count``."""

    name: str


@dataclass(frozen=True, slots=True)
class Reference:
    """``step.member``: ``path`` holds the column, the header or the JSON path, ``where`` the condition on
    columns of ``any``, ``all`` and ``count``.
    """

    step: str
    member: str
    path: tuple[str | int, ...] = ()
    where: Predicate | None = None

    def __str__(self) -> str:
        """``google.json.status``, without the condition on columns."""
        steps = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.path)
        return f"{self.step}.{self.member}{''.join(steps)}"


@dataclass(frozen=True, slots=True)
class Compare:
    """``left sign right``; without a sign, ``left`` must be true or false itself."""

    sign: str
    left: Value
    right: Value


@dataclass(frozen=True, slots=True)
class Match:
    """``left ~ "pattern"``: the text holds a match of the regular expression."""

    left: Value
    pattern: str


@dataclass(frozen=True, slots=True)
class Negated:
    """``not inner``."""

    inner: Predicate


@dataclass(frozen=True, slots=True)
class Both:
    """``part and part …``."""

    parts: tuple[Predicate, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """``part or part …``."""

    parts: tuple[Predicate, ...]


_CUT = "only the first rows of the answer were kept"

Value = Literal | Column | Reference
Predicate = Compare | Match | Negated | Both | Either


def references(predicate: Predicate) -> Iterator[Reference]:
    """Every reference in it, in order."""
    match predicate:
        case Compare(sign, left, right):
            yield from (v for v in ((left, right) if sign else (left,)) if isinstance(v, Reference))
        case Match(left, _):
            yield from (v for v in (left,) if isinstance(v, Reference))
        case Negated(inner):
            yield from references(inner)
        case Both(parts) | Either(parts):
            for part in parts:
                yield from references(part)


def columns(predicate: Predicate) -> set[str]:
    """The columns that a condition on columns looks at."""
    match predicate:
        case Compare(_, left, right):
            return {value.name for value in (left, right) if isinstance(value, Column)}
        case Match(left, _):
            return {left.name} if isinstance(left, Column) else set()
        case Negated(inner):
            return columns(inner)
        case Both(parts) | Either(parts):
            return {name for part in parts for name in columns(part)}


def of_answers(predicate: Predicate, answers: Mapping[str, Answer]) -> Truth:
    """The verdict of a whole condition."""
    return _truths(predicate, _Answers(answers))[0]


# --- what values stand for ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Answers:
    """The answers as a table of one row whose columns are the members of steps."""

    answers: Mapping[str, Answer]
    count: int = 1

    def values(self, value: Value) -> Sequence[object]:
        return [_member(value, self.answers.get(value.step)) if isinstance(value, Reference) else None]


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of one step."""

    answer: Answer

    @property
    def count(self) -> int:
        return len(self.answer.rows)

    def values(self, value: Value) -> Sequence[object]:
        return _column(self.answer, value.name) if isinstance(value, Column) else []


def _values(value: Value, table: _Answers | _Rows) -> Sequence[object]:
    return [value.value] * table.count if isinstance(value, Literal) else table.values(value)


def _truths(predicate: Predicate, table: _Answers | _Rows) -> list[Truth]:
    match predicate:
        case Compare(sign, left, right):
            pairs = zip(_values(left, table), _values(right, table), strict=True)
            return [_compared(sign, (left, a), (right, b)) for a, b in pairs]
        case Match(left, pattern):
            values = _values(left, table)
            truths = _matches(values, pattern)
            return [_blamed(truth, (left, value)) for truth, value in zip(truths, values, strict=True)]
        case Negated(inner):
            return [negated(truth) for truth in _truths(inner, table)]
        case Both(parts) | Either(parts):
            join = both if isinstance(predicate, Both) else either
            return [join(row) for row in zip(*(_truths(part, table) for part in parts), strict=True)]


def _compared(sign: str, *sides: tuple[Value, object]) -> Truth:
    (_, left), (_, right) = sides
    return _blamed(compare(sign, left, right) if sign else truth_of(left), *sides)


def _blamed(truth: Truth, *sides: tuple[Value, object]) -> Truth:
    """An unknown truth's reason begins with the step, or the column, that is to blame."""
    verdict, reason = truth
    if verdict is not None:
        return truth
    suspects = [side for side, value in sides if isinstance(value, Unknown | AtLeast)]
    suspect = next((s for s in (*suspects, *(side for side, _ in sides)) if not isinstance(s, Literal)), None)
    name = suspect.step if isinstance(suspect, Reference) else suspect.name if suspect else ""
    return None, f"{name}: {reason}" if name else reason


def _matches(values: Sequence[object], pattern: str) -> list[Truth]:
    texts = [value for value in values if isinstance(value, str)]
    found = iter(regex.matches(pattern, texts) if texts else [])
    return [(next(found), "") if isinstance(value, str) else _no_text(value) for value in values]


def _no_text(value: object) -> Truth:
    """Null holds no match; what is not known, or no text, is unknown."""
    if value is None:
        return FALSE
    return None, value.reason if isinstance(value, Unknown) else "~ needs a text on its left"


# --- reading a member of an answer ----------------------------------------------------------------------


def _member(reference: Reference, answer: Answer | None) -> object:
    if answer is None:
        return Unknown("did not run")
    if answer.status != "ok":
        # The one member that asks whether the step could answer; a step that never ran says nothing about it.
        if reference.member == "ok" and answer.status == "failed":
            return False
        return Unknown(answer.reason or answer.status.replace("_", " "))
    if reference.member == "ok":
        return answer.http is None or answer.http.status < 400
    if reference.member == "ms":
        return Unknown("its duration is not known") if answer.duration_ms is None else answer.duration_ms
    if reference.member in ("status", "json", "header"):
        return _of_http(reference, answer)
    return Unknown("an HTTP answer has no rows") if answer.http else _of_rows(reference, answer)


def _of_http(reference: Reference, answer: Answer) -> object:
    if answer.http is None:
        return Unknown(f"has no HTTP answer, so no {reference.member}")
    if reference.member == "status":
        return answer.http.status
    if reference.member == "header":
        name = str(reference.path[0])
        return answer.http.headers.get(name, Unknown(f"there is no header {name}", absent=True))
    if answer.http.json is None and answer.http.body.strip() != "null":
        return Unknown("the answer was cut" if answer.truncated else "the answer is not JSON")
    return _json(answer.http.json, reference.path)


def _json(value: Any, path: Sequence[str | int]) -> object:
    for depth, part in enumerate(path):
        key_fits = isinstance(value, list if isinstance(part, int) else dict)
        if not key_fits or (part >= len(value) if isinstance(part, int) else part not in value):
            place = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path[: depth + 1])
            return Unknown(f"there is no json{place}", absent=True)
        value = value[part]
    return value


def _of_rows(reference: Reference, answer: Answer) -> object:
    if reference.member == "rows":
        return _rows(len(answer.rows), answer)
    wanted = columns(reference.where) if reference.where else set(map(str, reference.path))
    missing = sorted(wanted.difference(answer.columns))
    if missing:
        return Unknown(f"there is no column {missing[0]}")
    if reference.where:
        return _over_rows(reference.member, _truths(reference.where, _Rows(answer)), answer)
    values = _column(answer, str(reference.path[0]))
    if not values and reference.member != "sum":
        return Unknown("there are no rows", absent=True)
    if reference.member == "first":
        return values[0]
    return Unknown(_CUT) if answer.truncated else _total(reference.member, values)


def _rows(count: int, answer: Answer) -> object:
    return AtLeast(count, _CUT) if answer.truncated else count


def _column(answer: Answer, name: str) -> Sequence[object]:
    place = answer.columns.index(name)
    return [row[place] for row in answer.rows]


def _total(member: str, values: Sequence[object]) -> object:
    """Sum, least or greatest of a column's numbers; null is left out, as in SQL."""
    numbers = [number(value) for value in values if value is not None]
    known = [n for n in numbers if n is not None]
    if len(known) < len(numbers):
        return Unknown(f"{member} needs a column of numbers")
    if member == "sum":
        return sum(known)
    if not known:
        return Unknown("there are no values", absent=True)
    return min(known) if member == "min" else max(known)


def _over_rows(member: str, truths: Sequence[Truth], answer: Answer) -> object:
    """``any`` (a row that was cut off may hold), ``all`` (of no rows nothing is claimed) and ``count``."""
    if member == "count":
        return _count(truths, answer)
    if member == "all" and not truths:
        return Unknown("there are no rows")
    verdict, reason = (either if member == "any" else both)(truths)
    if verdict is None:
        return Unknown(reason)
    decided_by_one_row = verdict is (member == "any")
    return Unknown(_CUT) if answer.truncated and not decided_by_one_row else verdict


def _count(truths: Sequence[Truth], answer: Answer) -> object:
    unknown = next((reason for verdict, reason in truths if verdict is None), "")
    return Unknown(unknown) if unknown else _rows(sum(verdict is True for verdict, _ in truths), answer)
