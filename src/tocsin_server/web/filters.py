"""Filters of the explore page: texts in its URL, compiled to SQL whose every value is bound.

``where=http_status>=500`` must hold, ``unless=path=/up`` must not; equalities of one field are alternatives.
The same texts stand behind every number on the other pages (:func:`of_selection`). Rows I16 of the
reliability bar: field names are checked, no text of a user ever becomes SQL.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from tocsin_server.columns import COLUMNS
from tocsin_server.query import Matcher, Operator, Selection, Sql, field_sql, filter_fault, matcher_sql
from tocsin_server.web.params import BadRequest, Params, TimeRange, moment

#: What people write between field and value -> the operator of a matcher.
OPERATORS: dict[str, Operator] = {
    "=": "in",
    "!=": "!=",
    "^=": "prefix",
    "<": "<",
    "<=": "<=",
    ">": ">",
    ">=": ">=",
}
_WRITTEN = {operator: sign for sign, operator in OPERATORS.items()}
_FILTER = re.compile(r"([A-Za-z_][A-Za-z0-9_.]{0,63})(\^=|!=|<=|>=|=|<|>)(.+)", re.DOTALL)
_NUMBERS = ("INTEGER", "BIGINT", "DOUBLE")
MAX_FILTERS = 40
MAX_CHARACTERS = 1000

#: Where free text is looked for.
SEARCHED = ("message", "error", "path", "job_class", "controller", "name", "attrs")


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition on one field."""

    field: str
    sign: str
    value: str

    def __str__(self) -> str:
        """As in the URL."""
        return f"{self.field}{self.sign}{self.value}"

    def matcher(self) -> Matcher:
        """The typed matcher. Raises BadRequest when the field can never be asked this."""
        number = self.sign in ("<", "<=", ">", ">=") or (
            COLUMNS.get(self.field) in _NUMBERS and self.sign == "="
        )
        value = self._number() if number else self._text()
        matcher = Matcher(OPERATORS[self.sign], (value,))
        if fault := filter_fault(self.field, matcher):
            raise BadRequest(f"`{self}`: {self.field} {fault}; correct the filter")
        return matcher

    def _text(self) -> bool | str:
        if COLUMNS.get(self.field) == "BOOLEAN" and self.value in ("true", "false"):
            return self.value == "true"
        return self.value

    def _number(self) -> int | float:
        try:
            number = float(self.value)
            return int(self.value) if re.fullmatch(r"-?\d{1,18}", self.value, re.ASCII) else number
        except ValueError:
            raise BadRequest(f"`{self}`: `{self.value[:40]}` is not a number; correct the filter") from None


def parse_filter(text: str) -> Filter:
    """``http_status>=500`` as a filter. Raises BadRequest."""
    found = _FILTER.fullmatch(text)
    if found is None or len(text) > MAX_CHARACTERS:
        raise BadRequest(f"`{text[:40]}` is no filter: write field=value or http_status>=500")
    return Filter(found[1], found[2], found[3])


@dataclass(frozen=True, slots=True)
class Filters:
    """All that an event must be, and the text that it must contain."""

    where: tuple[Filter, ...] = ()
    unless: tuple[Filter, ...] = ()
    text: str = ""

    @classmethod
    def of(cls, params: Params) -> Filters:
        """The filters of a URL, with the form's new one (``field``, ``operator``, ``value``). BadRequest."""
        where, unless = params.all("where"), params.all("unless")
        if added := params.one("value"):
            where.append(f"{params.one('field', 'name')}{params.one('operator', '=')}{added}")
        if len(where) + len(unless) > MAX_FILTERS:
            raise BadRequest(f"more than {MAX_FILTERS} filters: remove some")
        text = params.one("q")[:MAX_CHARACTERS]
        return cls(tuple(map(parse_filter, where)), tuple(map(parse_filter, unless)), text)

    def pairs(self) -> list[tuple[str, str]]:
        """The query of a URL."""
        pairs = [("where", str(one)) for one in self.where] + [("unless", str(one)) for one in self.unless]
        return [*pairs, ("q", self.text)] if self.text else pairs

    def sql(self) -> Sql:
        """The condition; TRUE or FALSE, never NULL. Raises BadRequest."""
        parts = [matcher_sql(field, matcher) for field, matcher in _grouped(self.where)]
        parts += [_negated(matcher_sql(one.field, one.matcher())) for one in self.unless]
        if self.text:
            parts.append(_contains(self.text))
        joined = " AND ".join(part.text for part in parts) or "true"
        return Sql(joined, tuple(value for part in parts for value in part.params))


def explore_url(
    span: TimeRange, where: Iterable[str] = (), unless: Iterable[str] = (), text: str = "", **more: str
) -> str:
    """The explore page at an absolute time range, with these filters."""
    pairs = [*span.as_json().items(), *(("where", one) for one in where)]
    pairs += [("unless", one) for one in unless]
    pairs += [("q", text)] if text else []
    return "/explore?" + urlencode([*pairs, *more.items()])


def written(matchers: Mapping[str, Matcher]) -> list[str]:
    """Matchers of a rule as texts of a URL."""
    return [text for field, matcher in matchers.items() for text in _texts(field, matcher)]


def of_selection(selection: Selection) -> tuple[list[str], list[str]]:
    """(where, unless) of a rule's selection, as texts of a URL."""
    return [f"name={selection.event}", *written(selection.where)], written(selection.unless)


def range_pairs(span: TimeRange) -> list[tuple[str, str]]:
    """``from`` and ``to`` of a URL."""
    return [("from", moment(span.from_us)), ("to", moment(span.to_us))]


def _texts(field: str, matcher: Matcher) -> Iterator[str]:
    for value in matcher.values:
        text = str(value).lower() if isinstance(value, bool) else str(value)
        yield f"{field}{_WRITTEN[matcher.operator]}{text}"


def _grouped(filters: Iterable[Filter]) -> Iterator[tuple[str, Matcher]]:
    """Equalities of one field become one matcher with several values."""
    equal: dict[str, list[Matcher]] = {}
    for one in filters:
        if one.sign == "=":
            equal.setdefault(one.field, []).append(one.matcher())
        else:
            yield one.field, one.matcher()
    for field, matchers in equal.items():
        yield field, Matcher("in", tuple(value for matcher in matchers for value in matcher.values))


def _negated(sql: Sql) -> Sql:
    return Sql(f"NOT ({sql.text})", sql.params)


def _contains(text: str) -> Sql:
    searched = (
        f"COALESCE(contains(lower(CAST({field_sql(name)} AS VARCHAR)), ?), false)" for name in SEARCHED
    )
    return Sql(f"({' OR '.join(searched)})", (text.lower(),) * len(SEARCHED))
